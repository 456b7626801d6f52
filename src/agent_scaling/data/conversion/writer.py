"""Writes one shard: a tar of chunks and its index, each atomically."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from agent_scaling.data.conversion.encode import EncodedGame
from agent_scaling.data.conversion.plan import sample_key
from agent_scaling.data.recordings.base import Skipped
from agent_scaling.data.shards.layout import Layout
from agent_scaling.data.shards.manifest import GameEntry, ShardIndex, dump_json
from agent_scaling.runtime.files import whole_file, write_file


class ShardTar:
    """Writer of a tar whose bytes depend on its members alone: no times, no users, one format."""

    def __init__(self, file: BinaryIO, layout: Layout, chunk_frames: int) -> None:
        self.tar = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        self.layout, self.chunk_frames = layout, chunk_frames

    def member(self, name: str, data: bytes) -> int:
        """Append a file and return the offset of its first byte in the tar."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        self.tar.addfile(info, BytesIO(data))
        return int(self.tar.offset) - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def game(self, encoded: EncodedGame) -> GameEntry:
        """Append a game's chunks, each preceded by a small JSON that describes it."""
        game, key, chunks = encoded.game, sample_key(encoded.game.identity), []
        for number, data in enumerate(encoded.chunks):
            first = number * self.chunk_frames
            about = {
                "version": self.layout.version,
                "game": game.identity,
                "chunk": number,
                "first_frame": first,
                "frames": min(self.chunk_frames, encoded.frames - first),
                "layout": str(self.layout),
            }
            self.member(f"{key}-{number:05d}.json", dump_json(about, compact=True))
            offset = self.member(f"{key}-{number:05d}.frames.zst", data)
            chunks.append((offset, len(data), zlib.crc32(data)))
        return GameEntry(
            id=game.identity,
            key=key,
            frames=encoded.frames,
            actions=encoded.actions,
            decisions=encoded.decisions,
            unknown_keys=encoded.unknown_keys,
            version=game.version,
            metadata=game.metadata,
            parts=game.parts,
            chunks=tuple(chunks),
        )


def write_shard(
    directory: Path,
    name: str,
    games: Iterable[EncodedGame | Skipped],
    *,
    plan: str,
    layout: Layout,
    chunk_frames: int,
) -> ShardIndex:
    """Write ``<name>.tar``, then ``<name>.json``; the index exists only if the tar is complete."""
    entries: list[GameEntry] = []
    skipped: list[dict[str, str]] = []
    path = directory / f"{name}.tar"
    with whole_file(path) as file:
        shard = ShardTar(file, layout, chunk_frames)
        for game in games:
            if isinstance(game, Skipped):
                skipped.append({"file": game.file, "reason": game.reason})
            else:
                entries.append(shard.game(game))
        shard.tar.close()
        size = file.tell()
    if not entries:  # no game was usable, and readers fail on an empty tar
        path.unlink()
        size = 0
    index = ShardIndex(plan=plan, tar_bytes=size, games=tuple(entries), skipped=tuple(skipped))
    write_file(directory / f"{name}.json", index.to_json())
    return index
