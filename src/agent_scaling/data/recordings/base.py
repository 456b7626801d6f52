"""The interface between readers of recorded games and the shard writer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent_scaling.data.shards.layout import NETHACK, Layout
from agent_scaling.runtime.errors import InputError

Metadata = Mapping[str, str | int]


class BadGame(Exception):  # noqa: N818  # describes one game; the program goes on
    """A recorded game is unusable; the message says why in one line."""


@dataclass(frozen=True)
class Game:
    """One recorded game whose frames have not been read.

    ``identity`` is independent of the input directory's path; it determines the game's split and
    position. ``parts`` are paths relative to the input directory, in order.
    """

    identity: str
    parts: tuple[str, ...]
    sizes: tuple[int, ...]
    """Bytes of each part."""
    version: int
    """Recording format: ttyrec 1 (screens), 2 (and keys), 3 (and scores)."""
    metadata: Metadata = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes)


MENU_FRAMES = "menu_frames"
"""Metadata of a converted game: frames of menus before it that were left out, where there were."""


@dataclass(frozen=True)
class Skipped:
    """A file or game that is left out, with the reason."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


ARCHIVE = re.compile(r".+\.(zip|tar|tgz|tbz2?|txz|7z|rar|tar\.[a-z0-9]+)", re.IGNORECASE)


def is_left_packed(name: str) -> bool:
    """Return True for an archive, which would hold recordings that nobody has unpacked."""
    return ARCHIVE.fullmatch(name) is not None and not name.startswith(".")


def readable(path: Path | str) -> str:
    """Return a path as text that can be printed and stored; bytes beyond UTF-8 are escaped."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


@dataclass(frozen=True)
class Discovery:
    """Everything found under an input directory, sorted by identity."""

    games: tuple[Game, ...]
    skipped: tuple[Skipped, ...]
    layout: Layout = NETHACK
    """Layout of the games' frames."""


@dataclass
class RawFrames:
    """n decoded frames; ``key[t]`` was pressed after frame t was seen (0: none or not recorded)."""

    shown: dict[str, npt.NDArray[Any]]
    """Observation → [n, …], as the source's layout lists them."""
    key: npt.NDArray[np.uint8]
    """[n]: the key pressed after each frame."""
    score: npt.NDArray[np.int32]
    """[n]: the in-game score (0 where the recording has none)."""
    menus: int = 0
    """Frames of menus before the game, since the frames before these, that were left out."""

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, part: slice) -> RawFrames:
        shown = {name: array[part] for name, array in self.shown.items()}
        return RawFrames(shown, self.key[part], self.score[part], self.menus)


def concatenate(chunks: Sequence[RawFrames]) -> RawFrames:
    """Concatenate chunks of frames along time."""
    names = chunks[0].shown
    return RawFrames(
        {name: np.concatenate([chunk.shown[name] for chunk in chunks]) for name in names},
        np.concatenate([chunk.key for chunk in chunks]),
        np.concatenate([chunk.score for chunk in chunks]),
        sum(chunk.menus for chunk in chunks),
    )


class Source(Protocol):
    """Reader of one kind of recording.

    Instances are small and picklable, because each worker process gets a copy.
    """

    name: str

    def locate(self, input: str) -> Path:
        """Return the directory of recordings that ``input`` names; by default, ``input`` itself."""
        root = Path(input)
        if not root.is_dir():
            raise InputError(f"input={input}: no such directory")
        return root

    def discover(self, root: Path) -> Discovery:
        """Find the games under ``root`` without reading their frames."""
        ...

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Yield the game's frames, ``chunk_frames`` at a time (the last may be shorter).

        Raises :class:`BadGame` for a recording that is broken, cut or empty.
        """
        ...

    def opening(self, game: Game, head: RawFrames) -> int:
        """Return the number of frames at the game's start that no player answered.

        ``head`` are the game's first frames. Called only for games with keys.
        """
        ...

    def closing(self, game: Game, tail: RawFrames) -> int:
        """Return the number of frames at the game's end that no player answered.

        ``tail`` are the game's last :data:`EDGE_FRAMES` frames or more (or the whole game).
        """
        ...


EDGE_FRAMES = 128
"""Frames at a game's end that a source inspects to find the last decision."""
