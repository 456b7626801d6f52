"""Store of converted games that wait for their shard; each is a one-game shard of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agent_scaling.data.conversion.encode import EncodedGame
from agent_scaling.data.conversion.writer import write_shard
from agent_scaling.data.recordings.base import MENU_FRAMES, Game, Skipped
from agent_scaling.data.shards.layout import Layout
from agent_scaling.data.shards.manifest import ShardIndex, parse_index
from agent_scaling.data.shards.storage import Folder
from agent_scaling.runtime.errors import InputError

SUFFIX = ".games"


@dataclass(frozen=True)
class Output:
    """The output directory of one conversion, with the games that wait for their shards."""

    directory: Path
    plan: str
    layout: Layout
    chunk_frames: int

    def waiting(self, shard: str, number: int) -> Path:
        """Return the path, without suffix, at which a shard's game of that number waits.

        The folder's name holds the conversion's fingerprint.
        """
        return self.directory / f".{shard}.{self.plan}{SUFFIX}" / f"{number:05d}"

    def keep(self, path: Path, game: EncodedGame | Skipped) -> None:
        """Write a game, or the record of a skipped one, to ``<path>.tar``, then ``<path>.json``."""
        self._write(path, [game])

    def join(self, shard: str, games: Iterable[EncodedGame | Skipped]) -> ShardIndex:
        """Write a shard of kept games, then delete the kept copies."""
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
    """Read and check a game that :meth:`Output.keep` wrote; None where it is missing or damaged."""
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
    if menus := entry.metadata.get(MENU_FRAMES):
        game = replace(game, metadata={**game.metadata, MENU_FRAMES: int(menus)})
    return EncodedGame(
        game=game,
        frames=entry.frames,
        actions=entry.actions,
        unknown_keys=entry.unknown_keys,
        decisions=entry.decisions,
        chunks=tuple(chunks),
    )


def check_kept(directory: Path, plan: str) -> None:
    """Raise :class:`InputError` where the folder holds waiting games of another conversion."""
    for path in directory.glob(f".*{SUFFIX}"):
        if not path.name.endswith(f".{plan}{SUFFIX}"):
            raise InputError(
                f"output={directory}: holds {path.name}, left by a stopped conversion of other "
                "games or settings: choose another directory, or remove it"
            )


def remove_kept(directory: Path) -> None:
    """Remove the folders of waiting games, once all shards are finished."""
    for path in directory.glob(f".*{SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)
