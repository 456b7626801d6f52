"""Cuts chunks into time-major windows of T steps and B lanes."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from agent_scaling.data.batch import Batch, shown_fields
from agent_scaling.data.shards.layout import ABSENT, Layout
from agent_scaling.data.shards.reader import SMALL, Chunk, Decoder, ShardReader
from agent_scaling.data.windows.order import PADDING, Span
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.envs.screens import NO_GLYPH

BLANK = np.array([(ABSENT, 0, 0, 0)], SMALL).view(np.uint64)[0]
"""Record of a padding frame."""
PADDED = {"inv_glyphs": NO_GLYPH}
"""Observation → its value in padding, where that is not 0."""


class Order(Protocol):
    """Interface of a data order: training or evaluation lanes."""

    def span(self, lane: int, position: int, length: int) -> Span:
        """Return a lane's frames from ``position`` on, of one game and ``length`` at most."""
        ...


class Buffers:
    """The memory of one window, lane by lane [B, T, …], so that a lane's frames are contiguous.

    The Batch's screens are time-major views of this memory. Copies of 10 MB would cost as much as
    reading.
    """

    def __init__(self, layout: Layout, steps: int, lanes: int) -> None:
        self._memory = {
            name: np.empty((lanes, steps, *shape), dtype)
            for name, (shape, dtype) in layout.shown.items()
        }
        self.small = np.empty((lanes, steps), np.uint64)
        self.first = np.empty((lanes, steps), np.bool_)
        self.game = np.empty((lanes, steps), np.int64)
        self.skipped = np.empty(lanes, np.int64)
        self.shown: dict[str, npt.NDArray[Any]] = {}
        self._lent: list[weakref.ref[npt.NDArray[Any]]] = []
        self.lend()

    def lend(self) -> None:
        """Leave the views in ``shown`` to the tensors over them; make new ones for later frames."""
        self._lent = [weakref.ref(view) for view in self.shown.values()]
        self.shown = {name: memory.view() for name, memory in self._memory.items()}

    @property
    def returned(self) -> bool:
        """True where no tensor holds a lent view any more."""
        return all(view() is None for view in self._lent)


class BufferPool:
    """Pool that reuses memory once no tensor refers to it.

    Fresh memory costs a page fault per 4 kB, which takes longer than copying the frames.
    """

    def __init__(self, layout: Layout, steps: int, lanes: int) -> None:
        self.layout, self.steps, self.lanes = layout, steps, lanes
        self._all: list[Buffers] = []
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> Buffers:
        """Reserve buffers for the caller until they are handed over."""
        with self._lock:
            for buffers in self._all:
                if id(buffers) not in self._busy and buffers.returned:
                    break
            else:
                buffers = Buffers(self.layout, self.steps, self.lanes)
                self._all.append(buffers)
            self._busy.add(id(buffers))
            return buffers

    def hand_over(self, buffers: Buffers) -> None:
        """End the reservation; the buffers are in use as long as tensors refer to them."""
        with self._lock:
            buffers.lend()
            self._busy.discard(id(buffers))

    def clear(self) -> None:
        """Drop the pool's references to all memory; tensors keep theirs."""
        with self._lock:
            self._all.clear()
            self._busy.clear()


class WindowStream:
    """Consecutive windows of some lanes, filled a whole chunk at a time.

    Each chunk is decoded once. While it is in the processor's cache, it is copied to all windows
    that show it, the requested one and later ones. Each lane is therefore up to a chunk ahead, and
    about ``chunk_frames / T`` windows are in memory.
    """

    def __init__(
        self,
        reader: ShardReader,
        order: Order,
        lanes: range,
        pool: BufferPool,
        start_step: int,
        end_step: int | None,
        games: bool,
    ) -> None:
        """Set up the stream; ``end_step=None`` makes it endless, ``games`` fills ``game_TB``."""
        self.games = games
        self.reader, self.order, self.lanes, self.pool = reader, order, lanes, pool
        self.steps = pool.steps
        self.end = None if end_step is None else end_step * self.steps
        self._filled = [start_step * self.steps] * len(lanes)
        """Position up to which each lane's windows are written."""
        self._behind_gap: list[bool | None] = [None] * len(lanes)
        """True for each lane whose previous chunk was damaged and left out; None at the start."""
        self._windows: dict[int, Buffers] = {}
        self._lock = threading.Lock()

    def fill(self, step: int, column: int, decoder: Decoder) -> None:
        """Write lane ``lanes[column]``'s part of all windows up to ``step`` or later.

        Threads may fill different columns concurrently.
        """
        while (position := self._filled[column]) < (step + 1) * self.steps:
            limit = self.reader.chunk_frames
            if self.end is not None:
                limit = min(limit, self.end - position)
            span = self.order.span(self.lanes[column], position, limit)
            chunk, begin, count = None, 0, span.length
            if span.game != PADDING:
                number, begin = divmod(span.frame, self.reader.chunk_frames)
                count = min(count, self.reader.frames_in(span.game, number) - begin)
                if self._resumes(column, span, decoder):
                    span = replace(span, first=True)
                chunk = self.reader.whole_chunk(span.game, number, decoder)
                self._behind_gap[column] = chunk is None
            self._write(column, position, count, span, chunk, begin)
            self._filled[column] = position + count

    def _resumes(self, column: int, span: Span, decoder: Decoder) -> bool:
        """Return True where a game continues after a damaged chunk that was left out."""
        number, begin = divmod(span.frame, self.reader.chunk_frames)
        if begin or span.first or self.reader.on_corrupt == "stop":
            return False
        behind = self._behind_gap[column]
        if behind is None:  # a resumed run starts here and must see the same data as before
            behind = self.reader.whole_chunk(span.game, number - 1, decoder) is None
        return behind

    def _write(
        self, column: int, position: int, count: int, span: Span, chunk: Chunk | None, begin: int
    ) -> None:
        """Write ``count`` frames of ``chunk`` from ``begin`` on at ``position``; None: padding."""
        opens, game = span.first, PADDING if chunk is None else span.game
        skipped = chunk is None and span.game != PADDING
        while count:
            step, t = divmod(position, self.steps)
            window = self._windows.get(step) or self._new_window(step)
            run = min(count, self.steps - t)
            rows, frames = slice(t, t + run), slice(begin, begin + run)
            for name, array in window.shown.items():
                blank = PADDED.get(name, 0)
                array[column, rows] = blank if chunk is None else chunk.shown[name][frames]
            if chunk is None:
                window.small[column, rows] = BLANK
                window.skipped[column] += run if skipped else 0
            else:
                window.small[column, rows] = chunk.small[frames]
            if self.games:
                window.game[column, rows] = game
            if opens:
                window.first[column, t] = True
                opens = False
            position, begin, count = position + run, begin + run, count - run

    def _new_window(self, step: int) -> Buffers:
        with self._lock:
            if step not in self._windows:
                window = self.pool.take()
                window.first.fill(False)
                window.skipped.fill(0)
                self._windows[step] = window
            return self._windows[step]

    def batch(self, step: int, scores: bool) -> Batch:
        """Return a window that all lanes have filled as a Batch, which owns its memory from now."""
        with self._lock:
            window = self._windows.pop(step)
        small = np.ascontiguousarray(window.small.T).view(SMALL)
        action = small["action"].astype(np.int64)
        action[action == ABSENT] = NO_ACTION
        first, game = window.first.T.copy(), window.game.T.copy()
        given = None
        if self.reader.layout.labelled:
            given = torch.from_numpy(small["probability"].astype(np.float32) / 255)
        shown = {n: torch.from_numpy(window.shown[n]).transpose(0, 1) for n in window.shown}
        batch = Batch(
            **shown_fields(shown),
            prev_action_TB=torch.from_numpy(small["previous"].astype(np.int64)),
            action_TB=torch.from_numpy(action),
            first_TB=torch.from_numpy(first),
            probability_TB=given,
            score_TB=torch.from_numpy(np.ascontiguousarray(small["score"])) if scores else None,
            game_TB=torch.from_numpy(game) if self.games else None,
            openings=tuple(np.flatnonzero(first.any(axis=1)).tolist()),
            skipped=int(window.skipped.sum()),
        )
        self.pool.hand_over(window)
        return batch

    def close(self) -> None:
        """Give back the windows that were not requested."""
        with self._lock:
            for window in self._windows.values():
                self.pool.hand_over(window)
            self._windows.clear()
