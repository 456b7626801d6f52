"""Time-major windows of T steps and B lanes, cut out of chunks."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from agent_scaling.data.batch import Batch, shown_fields
from agent_scaling.data.shards.layout import ABSENT, Layout
from agent_scaling.data.shards.reader import SMALL, Chunk, Decoder, ShardReader
from agent_scaling.data.windows.order import PADDING, Span
from agent_scaling.envs.actions import NO_ACTION

BLANK = np.array([(ABSENT, 0, 0, 0)], SMALL).view(np.uint64)[0]
"""A padding frame's record."""


class Order(Protocol):
    """A data order: training or evaluation lanes."""

    def span(self, lane: int, position: int, length: int) -> Span:
        """What a lane shows from ``position`` on, ``length`` frames at most."""
        ...


class Buffers:
    """The memory of one window, lane by lane [B, T, …]: a lane's frames are written in one go.

    The Batch's screens are time-major views of it; copies of 10 MB would cost as much as reading.
    """

    def __init__(self, layout: Layout, steps: int, lanes: int) -> None:
        self.shown = {
            name: np.empty((lanes, steps, *shape), dtype)
            for name, (shape, dtype) in layout.shown.items()
        }
        self.small = np.empty((lanes, steps), np.uint64)
        self.first = np.empty((lanes, steps), np.bool_)
        self.game = np.empty((lanes, steps), np.int64)
        self.skipped = np.empty(lanes, np.int64)


class BufferPool:
    """Hands out memory again once no tensor refers to it.

    Fresh memory costs a page fault per 4 kB, more than the copy of the frames into it.
    """

    def __init__(self, layout: Layout, steps: int, lanes: int) -> None:
        self.layout, self.steps, self.lanes = layout, steps, lanes
        self._all: list[Buffers] = []
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> Buffers:
        """Buffers that nobody else sees, until they are handed over."""
        with self._lock:
            for buffers in self._all:
                # Referred to by the Buffers and by this call alone: the tensors are gone.
                if id(buffers) not in self._busy and all(
                    sys.getrefcount(buffers.shown[name]) <= 2 for name in buffers.shown
                ):
                    break
            else:
                buffers = Buffers(self.layout, self.steps, self.lanes)
                self._all.append(buffers)
            self._busy.add(id(buffers))
            return buffers

    def hand_over(self, buffers: Buffers) -> None:
        """From now on the tensors over them alone say whether they are in use."""
        with self._lock:
            self._busy.discard(id(buffers))

    def clear(self) -> None:
        """Forget all memory; what tensors hold stays theirs."""
        with self._lock:
            self._all.clear()
            self._busy.clear()


class WindowStream:
    """Consecutive windows of some lanes, filled a whole chunk at a time.

    A chunk is decoded once and copied at once, while it is in the processor's cache, to all the
    windows that show it: to the one that is asked for and to later ones. So each lane is up to a
    chunk ahead, and about ``chunk_frames / T`` windows are in memory.
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
        """``end_step``: None for an endless stream; ``games``: note each frame's game."""
        self.games = games
        self.reader, self.order, self.lanes, self.pool = reader, order, lanes, pool
        self.steps = pool.steps
        self.end = None if end_step is None else end_step * self.steps
        self._filled = [start_step * self.steps] * len(lanes)
        """Per lane: the position up to which its windows are written."""
        self._behind_gap: list[bool | None] = [None] * len(lanes)
        """Per lane: whether a damaged chunk was left out just before; None where it starts."""
        self._windows: dict[int, Buffers] = {}
        self._lock = threading.Lock()

    def fill(self, step: int, column: int, decoder: Decoder) -> None:
        """Write lane ``lanes[column]``'s part of all windows up to ``step``, at least.

        Threads may fill different columns at the same time.
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
        """Whether a game goes on here behind a damaged chunk of it that was left out."""
        number, begin = divmod(span.frame, self.reader.chunk_frames)
        if begin or span.first or self.reader.on_corrupt == "stop":
            return False
        behind = self._behind_gap[column]
        if behind is None:  # a run goes on exactly here: it must see what it would have seen
            behind = self.reader.whole_chunk(span.game, number - 1, decoder) is None
        return behind

    def _write(
        self, column: int, position: int, count: int, span: Span, chunk: Chunk | None, begin: int
    ) -> None:
        """Write ``count`` frames of a chunk from ``begin`` on (None: padding) at a position."""
        opens, game = span.first, PADDING if chunk is None else span.game
        skipped = chunk is None and span.game != PADDING
        while count:
            step, t = divmod(position, self.steps)
            window = self._windows.get(step) or self._new_window(step)
            run = min(count, self.steps - t)
            rows, frames = slice(t, t + run), slice(begin, begin + run)
            for name, array in window.shown.items():
                array[column, rows] = 0 if chunk is None else chunk.shown[name][frames]
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
        """The Batch of a window that all lanes have filled; its memory is the Batch's now."""
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
        """Give back the windows that nobody asked for."""
        with self._lock:
            for window in self._windows.values():
                self.pool.hand_over(window)
            self._windows.clear()
