"""Chunks by byte range, and time-major windows of frames cut out of them."""

from __future__ import annotations

import os
import sys
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import zstandard

from agent_scaling.actions import NO_ACTION, key_to_action
from agent_scaling.batch import COLUMNS, ROWS, Batch
from agent_scaling.errors import InputError
from agent_scaling.shards import codec
from agent_scaling.shards.lanes import PADDING, Span
from agent_scaling.shards.manifest import GameEntry, Manifest, load_split

SMALL = np.dtype(
    [("cursor", "u1", (2,)), ("key", "u1"), ("decision", "u1"), ("score", "<i4")], align=True
)
"""The per-frame values as one 8-byte record, so that a span is copied in three assignments."""
assert SMALL.itemsize == 8


@dataclass
class Chunk:
    """A decoded chunk."""

    game: int
    number: int
    chars: npt.NDArray[np.uint8]
    colors: npt.NDArray[np.int8]
    small: npt.NDArray[np.uint64]
    """[n]: records of :data:`SMALL`."""
    previous_key: int

    def key_before(self, frame: int) -> int:
        """Key pressed before the chunk's frame ``frame``."""
        return int(self.small.view(SMALL)["key"][frame - 1]) if frame else self.previous_key


class ShardReader:
    """Random access to the chunks of one split; safe to share between threads."""

    def __init__(self, directory: str | Path, split: str) -> None:
        """Raises :class:`InputError` where manifest, indexes and shards do not fit together."""
        self.manifest: Manifest
        self.manifest, games = load_split(Path(directory), split)
        self.games: list[GameEntry] = [game for _, game in games]
        self._tars = [tar for tar, _ in games]
        self._files: dict[Path, int] = {}
        self._lock = threading.Lock()

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk (a game's last chunk may have fewer)."""
        return self.manifest.chunk_frames

    def _file(self, tar: Path) -> int:
        with self._lock:
            if tar not in self._files:
                self._files[tar] = os.open(tar, os.O_RDONLY)
            return self._files[tar]

    def close(self) -> None:
        """Close the shards' files."""
        with self._lock:
            for handle in self._files.values():
                os.close(handle)
            self._files.clear()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def raw(self, game: int, number: int) -> tuple[bytes, int]:
        """A chunk's compressed bytes, checked, and its number of frames."""
        entry, tar = self.games[game], self._tars[game]
        offset, size, crc = entry.chunks[number]
        try:
            data = os.pread(self._file(tar), size, offset)
        except OSError as error:
            raise InputError(f"cannot read {tar}: {error.strerror}") from None
        if len(data) != size or zlib.crc32(data) != crc:
            what = "is cut" if len(data) != size else "is damaged"
            member = f"{entry.key}-{number:05d}.frames.zst"
            raise InputError(f"{tar}: {member} {what}: copy the shard again or convert again")
        return data, min(self.chunk_frames, entry.frames - number * self.chunk_frames)

    def chunk(
        self, game: int, number: int, zstd: zstandard.ZstdDecompressor | None = None
    ) -> Chunk:
        """Chunk ``number`` of a game, decoded; raises :class:`InputError` if it is damaged."""
        data, count = self.raw(game, number)
        try:
            frames = codec.decode(data, count, zstd)
        except codec.CorruptChunk as error:
            where = f"{self._tars[game]}: {self.games[game].key}-{number:05d}.frames.zst"
            raise InputError(f"{where} cannot be decoded ({error}): convert again") from None
        small = np.empty(count, SMALL)
        for name in SMALL.names or ():
            small[name] = getattr(frames, name)
        view = small.view(np.uint64)
        return Chunk(game, number, frames.chars, frames.colors, view, frames.previous_key)


class Order(Protocol):
    """A data order: training or evaluation lanes."""

    def spans(self, lane: int, step: int, length: int) -> list[Span]:
        """What a lane shows in a window of ``length`` steps."""
        ...


class Buffers:
    """The memory of one window of T steps and B lanes."""

    def __init__(self, steps: int, lanes: int) -> None:
        self.chars = np.empty((steps, lanes, ROWS, COLUMNS), np.uint8)
        self.colors = np.empty((steps, lanes, ROWS, COLUMNS), np.int8)
        self.small = np.empty((steps, lanes), np.uint64)
        self.first = np.empty((steps, lanes), np.bool_)
        self.game = np.empty((steps, lanes), np.int64)
        self.opening_keys: list[list[tuple[int, int]]] = [[] for _ in range(lanes)]
        """Per lane: (step, key before it) where that key is not in the lane's step before."""


class BufferPool:
    """Hands out screens' memory again once no tensor refers to it.

    Fresh memory costs a page fault per 4 kB, more than the copy of the frames into it.
    """

    def __init__(self, steps: int, lanes: int) -> None:
        self.steps, self.lanes = steps, lanes
        self._all: list[Buffers] = []
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> Buffers:
        """Buffers that nobody else sees."""
        with self._lock:
            for buffers in self._all:
                # Referred to by the Buffers and by this call alone: the tensors are gone.
                if id(buffers) not in self._busy and (
                    sys.getrefcount(buffers.chars) == 2 and sys.getrefcount(buffers.colors) == 2
                ):
                    break
            else:
                buffers = Buffers(self.steps, self.lanes)
                self._all.append(buffers)
            self._busy.add(id(buffers))
            return buffers

    def hand_over(self, buffers: Buffers) -> None:
        """The tensors alone now say whether the memory is in use."""
        with self._lock:
            self._busy.discard(id(buffers))


class WindowReader:
    """Cuts windows of T steps out of the lanes of one rank."""

    def __init__(
        self,
        reader: ShardReader,
        order: Order,
        lanes: range,
        steps: int,
        *,
        scores: bool = False,
        games: bool = False,
    ) -> None:
        """``lanes``: which lanes of ``order``; ``scores``, ``games``: also give these fields."""
        self.reader, self.order, self.lanes, self.steps = reader, order, lanes, steps
        self.scores, self.games = scores, games
        self.pool = BufferPool(steps, len(lanes))
        self._chunks: list[Chunk | None] = [None] * len(lanes)
        self._locks = [threading.Lock() for _ in lanes]

    def fill(
        self, step: int, buffers: Buffers, column: int, zstd: zstandard.ZstdDecompressor
    ) -> None:
        """Write lane ``lanes[column]``'s part of window ``step``."""
        before = buffers.opening_keys[column] = []
        buffers.first[:, column] = False
        for span in self.order.spans(self.lanes[column], step, self.steps):
            rows = slice(span.step, span.step + span.length)
            buffers.game[rows, column] = span.game
            if span.game == PADDING:
                buffers.chars[rows, column] = 0
                buffers.colors[rows, column] = 0
                buffers.small[rows, column] = 0
                before.append((span.step, 0))
                continue
            buffers.first[span.step, column] = span.first
            with self._locks[column]:
                self._copy(span, buffers, column, zstd)

    def _copy(
        self, span: Span, buffers: Buffers, column: int, zstd: zstandard.ZstdDecompressor
    ) -> None:
        """Copy a span, chunk by chunk; the lane's chunk stays for its next window."""
        t, frame, rest = span.step, span.frame, span.length
        while rest:
            number, begin = divmod(frame, self.reader.chunk_frames)
            chunk = self._chunks[column]
            if chunk is None or (chunk.game, chunk.number) != (span.game, number):
                self._chunks[column] = None  # its memory serves the next one
                chunk = self._chunks[column] = self.reader.chunk(span.game, number, zstd)
            if t == span.step:
                buffers.opening_keys[column].append((t, chunk.key_before(begin)))
            run = min(rest, len(chunk.small) - begin)
            rows, frames = slice(t, t + run), slice(begin, begin + run)
            buffers.chars[rows, column] = chunk.chars[frames]
            buffers.colors[rows, column] = chunk.colors[frames]
            buffers.small[rows, column] = chunk.small[frames]
            t, frame, rest = t + run, frame + run, rest - run

    def finish(self, buffers: Buffers) -> Batch:
        """The Batch over filled buffers; afterwards they belong to it."""
        small = buffers.small.view(SMALL)
        key = np.ascontiguousarray(small["key"])
        answer = key_to_action()[key]
        # prev_action[t] is the key that was pressed before frame t was seen.
        previous = np.empty_like(answer)
        previous[1:] = answer[:-1]
        table = key_to_action()
        for column, before in enumerate(buffers.opening_keys):
            for t, value in before:
                previous[t, column] = table[value]
        np.maximum(previous, 0, out=previous)
        answer[small["decision"] == 0] = NO_ACTION
        batch = Batch(
            chars_TBHW=torch.from_numpy(buffers.chars),
            colors_TBHW=torch.from_numpy(buffers.colors),
            cursor_TB2=torch.from_numpy(np.ascontiguousarray(small["cursor"])),
            prev_action_TB=torch.from_numpy(previous),
            action_TB=torch.from_numpy(answer),
            first_TB=torch.from_numpy(buffers.first.copy()),
            score_TB=torch.from_numpy(np.ascontiguousarray(small["score"]))
            if self.scores
            else None,
            game_TB=torch.from_numpy(buffers.game.copy()) if self.games else None,
            openings=tuple(np.flatnonzero(buffers.first.any(axis=1)).tolist()),
        )
        self.pool.hand_over(buffers)
        return batch

    def window(self, step: int) -> Batch:
        """Window ``step`` of all lanes: frames [step·T, (step+1)·T) of each."""
        buffers, zstd = self.pool.take(), zstandard.ZstdDecompressor()
        for column in range(len(self.lanes)):
            self.fill(step, buffers, column, zstd)
        return self.finish(buffers)
