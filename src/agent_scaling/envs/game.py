"""What the pool asks of a game family: the shapes it writes, and three methods."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

Record = dict[str, Any]
"""An episode's statistics: plain JSON values by column name."""

FAMILIES = {
    "nethack": "agent_scaling.envs.nethack:NetHack",
    "atari": "agent_scaling.envs.atari:Atari",
}
"""Family, as manifests and checkpoints name it → import path of its class."""

Views = Mapping[str, npt.NDArray[Any]]
"""Arrays by name, without or with the lane as first axis."""


class Game(Protocol):
    """One game in a worker process; it writes observations into arrays that others own.

    A family is a class with this shape. It is named by its import path (``module:Class``), because
    workers import it by themselves, and its module must not import torch: a worker's start would
    cost seconds.
    """

    observations: ClassVar[Mapping[str, tuple[tuple[int, ...], str]]]
    """What it can write: name → (shape, dtype). A pool may ask for a part of it."""
    num_actions: ClassVar[int]
    """Width of its action set."""

    def __init__(self, views: Views, **options: Any) -> None: ...

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` alone determines; its first frame is in the views."""

    def step(self, action: int) -> Record | None:
        """Take an action; the episode's record when it has ended, else None."""

    def close(self) -> None:
        """Release what the game holds."""


def find_game(path: str) -> type[Game]:
    """``"package.module:Class"`` → the class."""
    module, _, name = path.partition(":")
    found: type[Game] = getattr(importlib.import_module(module), name)
    return found
