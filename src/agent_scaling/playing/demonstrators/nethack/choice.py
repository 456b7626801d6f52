"""A behaviour's answer to the player: keys, and answers to the prompts they may raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent_scaling.playing.demonstrators.nethack.view import View
from agent_scaling.playing.demonstrators.pathfinding import STRIDE

DIRECTIONS = {
    -STRIDE: "k", 1: "l", STRIDE: "j", -1: "h",
    1 - STRIDE: "u", 1 + STRIDE: "n", STRIDE - 1: "b", -1 - STRIDE: "y",
}  # fmt: skip
"""Difference of two neighbouring cells' indices → the key that moves from one to the other."""


@dataclass(frozen=True)
class Choice:
    """The keys that a behaviour wants to press.

    ``keys`` are pressed one after the other; ``answers`` maps a part of a prompt to the keys that
    answer it, should that prompt appear, or to a function that finds them on its screen.
    Unforeseen prompts are escaped from.
    """

    keys: str
    answers: Mapping[str, str | Callable[[View], str]] = field(default_factory=dict)
    target: int | None = None
    """The cell that the keys move into or hit."""
