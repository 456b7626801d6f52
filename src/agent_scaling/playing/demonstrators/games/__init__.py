"""The games that can be demonstrated: one module each, found by name.

A module ``games/<name>.py`` has the shape of :class:`Game`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from agent_scaling.runtime.errors import InputError


@dataclass(frozen=True)
class GameSpec:
    """A game that is to be played."""

    seed: int
    """The demonstration's seed plus the game's number; core and display seeds follow from it."""
    options: dict[str, Any]
    """The options that the game's ``make_options`` returned."""
    max_steps: int
    """Environment steps after which the game is quit."""
    folder: Path
    """An empty folder that receives the game's files."""


@dataclass(frozen=True)
class GameRecord:
    """The record of one game; a line of ``games.jsonl``."""

    seed: int
    options: dict[str, Any]
    """Options of the game, such as NetHack's character."""
    max_steps: int
    pid: int
    """Id of the process that played; a part of the files' names."""
    env_steps: int
    frames: int
    """Frames in the recording: environment steps plus keys that the environment pressed itself."""
    score: int
    """The last in-game score."""
    end: str
    """The game's own word for its end; ``quit`` at the step cap. Empty if the game broke off
    without writing its log, which makes the recording unusable."""
    seconds: float
    details: dict[str, int] = field(default_factory=dict)
    """Further numbers of the game, such as NetHack's turns and deepest level."""
    fault: str = ""
    """The line that says why a user's player failed; its game is left out."""

    def to_json(self) -> dict[str, Any]:
        """Return a finished game's record as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "fault"}


class Game(Protocol):
    """The interface of the modules in this package."""

    FOLDER: str
    """Folder in the output that holds a folder per game."""

    PLAYERS: Collection[str]
    """Names of its players."""

    def make_options(self, **given: Any) -> dict[str, Any]:
        """Choose the game's options from the verb's; raise ``InputError`` for an unknown one."""

    def play(self, spec: GameSpec) -> GameRecord:
        """Play one game to its end into ``spec.folder``."""

    def play_unrecorded(
        self, player: str, seed: int, *, max_steps: int, **options: Any
    ) -> GameRecord:
        """Play one game and write nothing."""


def find_game(name: str) -> Game:
    """Return the module of a game, or raise an ``InputError`` that lists the known ones."""
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise InputError(f"game={name}: unknown game; known: {', '.join(known)}")
    return cast(Game, importlib.import_module(f"{__name__}.{name}"))
