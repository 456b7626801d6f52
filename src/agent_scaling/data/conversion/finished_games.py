"""Games that are converted and wait for their shard: each is kept as a shard of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_scaling.data.conversion.encode import EncodedGame
from agent_scaling.data.conversion.writer import write_shard
from agent_scaling.data.recordings.base import Game, Skipped
from agent_scaling.data.shards.layout import Layout
from agent_scaling.data.shards.manifest import ShardIndex, parse_index
from agent_scaling.data.shards.storage import Folder
from agent_scaling.runtime.errors import InputError

SUFFIX = ".games"


@dataclass(frozen=True)
class Output:
    """Where the shards of one conversion go, game by game."""

    directory: Path
    plan: str
    layout: Layout
    chunk_frames: int

    def waiting(self, shard: str, number: int) -> Path:
        """Where a shard's game of that number waits; the folder says of which conversion it is."""
        return self.directory / f".{shard}.{self.plan}{SUFFIX}" / f"{number:05d}"

    def keep(self, path: Path, game: EncodedGame | Skipped) -> None:
        """Write ``<path>.tar``, then ``<path>.json``; what was skipped is remembered likewise."""
        self._write(path, [game])

    def join(self, shard: str, games: Iterable[EncodedGame | Skipped]) -> ShardIndex:
        """Write the shard of games that were kept; they need not wait any longer."""
        index = self._write(self.directory / shard, games)
        shutil.rmtree(self.waiting(shard, 0).parent, ignore_errors=True)
        return index

    def _write(self, path: Path, games: Iterable[EncodedGame | Skipped]) -> ShardIndex:
        return write_shard(
            path.parent,
            path.name,
            games,
            plan=self.plan,
            layout=self.layout,
            chunk_frames=self.chunk_frames,
        )


def read_kept(path: Path, game: Game) -> EncodedGame | Skipped | None:
    """What :meth:`Output.keep` wrote, checked; None where it is missing or damaged."""
    folder = Folder(path.parent)
    try:
        index = folder.read(f"{path.name}.json", parse_index)
        if index.skipped:
            return Skipped(**index.skipped[0])
        (entry,) = index.games
        chunks = [
            folder.chunk(f"{path.name}.tar", "", entry.chunks, number)
            for number in range(len(entry.chunks))
        ]
    except (InputError, OSError, ValueError):  # Damaged is a ValueError
        return None
    return EncodedGame(
        game=game,
        frames=entry.frames,
        actions=entry.actions,
        unknown_keys=entry.unknown_keys,
        decisions=entry.decisions,
        chunks=tuple(chunks),
    )


def check_kept(directory: Path, plan: str) -> None:
    """Raise :class:`InputError` where games of another conversion wait."""
    for path in directory.glob(f".*{SUFFIX}"):
        if not path.name.endswith(f".{plan}{SUFFIX}"):
            raise InputError(
                f"output={directory}: holds what a conversion of other games or settings had done "
                f"when it was stopped ({path.name}): choose another directory, or remove it"
            )


def remove_kept(directory: Path) -> None:
    """Remove what is left of games that waited for shards; these are all finished."""
    for path in directory.glob(f".*{SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)
