"""The games that can be demonstrated: one module each, found by its name.

A module ``games/<name>.py`` defines ``check_character(character)``, which raises an ``InputError``
for a bad one, and ``play(spec) -> GameRecord``, which plays one whole game into ``spec.folder``.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from agent_scaling.errors import InputError


@dataclass(frozen=True)
class GameSpec:
    """One game to be played."""

    seed: int
    """The demonstration's seed plus the game's number; core and display seeds follow from it."""
    character: str
    max_steps: int
    """Environment steps after which the game is quit."""
    folder: Path
    """An empty folder that receives the game's files."""


@dataclass(frozen=True)
class GameRecord:
    """What is written down of one game; a line of ``games.jsonl``."""

    seed: int
    core_seed: int
    disp_seed: int
    character: str
    max_steps: int
    pid: int
    """Process that played, part of the files' names."""
    env_steps: int
    frames: int
    """Frames in the ttyrec: environment steps plus keys that the environment pressed itself."""
    score: int
    """Last in-game score."""
    turns: int
    max_depth: int
    end: str
    """The game's own word for its end; ``quit`` at the step cap. Empty if the game broke off
    without writing its log, which makes the recording unusable."""
    seconds: float


class Game(Protocol):
    """What a module of this package offers."""

    def check_character(self, character: str) -> None:
        """Raise an ``InputError`` if the game has no such character."""

    def play(self, spec: GameSpec) -> GameRecord:
        """Play one game to its end into ``spec.folder``."""


def find_game(name: str) -> Game:
    """The module of a game; an ``InputError`` lists the known ones."""
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise InputError(f"game={name}: unknown game; known: {', '.join(known)}")
    return cast(Game, importlib.import_module(f"{__name__}.{name}"))
