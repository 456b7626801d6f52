"""The data order: a pure function from lane and step to a frame of a game.

Training: the games of an epoch, permuted by a keyed hash of (seed, epoch, game), form one stream of
F frames. Lane l of L has the stream's frames [l·F//L, (l+1)·F//L), so each frame comes exactly once
per epoch. The lanes' lengths differ by one frame at most. A shorter lane's epoch ends with one
frame of padding, so that all lanes have S = ⌈F/L⌉ positions per epoch. A lane's position
n = step·T + t is position n mod S of epoch n div S; epochs follow without end.

Evaluation: one pass in the stored order, without permutation. Lane l starts at frame l·F//L and has
the same length, or ``max_frames`` // L frames if that is less (a fixed, evenly spaced subset).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from agent_scaling.data.shards.hashing import keyed_hash
from agent_scaling.runtime.errors import InputError

PADDING = -1


@dataclass(frozen=True, slots=True)
class Span:
    """``length`` consecutive frames of a game at consecutive positions of a lane."""

    length: int
    game: int
    """Index of the game in the split; :data:`PADDING` for padding."""
    frame: int
    """The first frame's number in its game."""
    first: bool
    """True where the core's state is reset: a game opens, or the lane opens within a game."""


@dataclass(frozen=True)
class Stream:
    """Concatenated games: ``starts[i]`` is the position of game ``order[i]``'s first frame."""

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    """[games + 1]; the last is the stream's length."""

    def span(self, position: int, length: int, opens: bool) -> Span:
        """Return the frames from ``position`` to the game's end, ``length`` at most.

        ``opens`` is True where a lane starts at ``position``.
        """
        index = int(np.searchsorted(self.starts, position, side="right")) - 1
        frame = position - int(self.starts[index])
        run = min(length, int(self.starts[index + 1]) - position)
        return Span(run, int(self.order[index]), frame, opens or frame == 0)


def make_stream(order: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> Stream:
    """Make the stream of games in ``order`` [games]; ``frames`` [games] are their lengths."""
    return Stream(order, np.concatenate([[0], np.cumsum(frames[order])]).astype(np.int64))


def mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter 64-bit numbers by splitmix64's finaliser, a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class TrainLanes:
    """The training order, which never ends."""

    def __init__(self, ids: Sequence[str], frames: Sequence[int], lanes: int, seed: int) -> None:
        """Set up the order; ``ids`` and ``frames`` are each game's identity and length."""
        self.frames = np.asarray(frames, dtype=np.int64)
        self.total = int(self.frames.sum())
        self.lanes, self.seed = lanes, seed
        if not 1 <= lanes <= self.total:
            raise InputError(f"lanes={lanes}: must be 1 to {self.total}, the frames to train on")
        self.positions = -(-self.total // lanes)
        """S, the number of positions per lane and epoch."""
        self._hashes = np.array([keyed_hash(name, "game") for name in ids], dtype=np.uint64)
        self.stream = lru_cache(maxsize=4)(self._stream)

    def _stream(self, epoch: int) -> Stream:
        key = np.uint64(keyed_hash(f"{self.seed} {epoch}", "epoch"))
        order = np.argsort(mix(self._hashes ^ key), kind="stable").astype(np.int64)
        return make_stream(order, self.frames)

    def span(self, lane: int, position: int, length: int) -> Span:
        """Return the lane's frames from ``position`` on, of one game and ``length`` at most."""
        begin = lane * self.total // self.lanes
        frames = (lane + 1) * self.total // self.lanes - begin
        epoch, offset = divmod(position, self.positions)
        if offset < frames:
            limit = min(length, frames - offset)
            return self.stream(epoch).span(begin + offset, limit, offset == 0)
        return Span(min(length, self.positions - offset), PADDING, 0, False)


class EvalLanes:
    """The evaluation order: one pass over the games as stored, or over a fixed part of them."""

    def __init__(self, frames: Sequence[int], lanes: int, max_frames: int | None = None) -> None:
        """Set up the order of games of lengths ``frames``.

        ``max_frames`` bounds the frames of all lanes together; None: no bound.
        """
        lengths = np.asarray(frames, dtype=np.int64)
        self.total = int(lengths.sum())
        self.lanes = lanes
        if lanes < 1:
            raise InputError(f"lanes={lanes}: must be at least 1")
        if max_frames is not None and max_frames < lanes:
            raise InputError(
                f"max_frames={max_frames}: must be at least the number of lanes, {lanes}"
            )
        self.cap = self.total if max_frames is None else max_frames // lanes
        self.stream = make_stream(np.arange(len(lengths)), lengths)

    def segment(self, lane: int) -> tuple[int, int]:
        """Return the first frame and the number of frames of a lane."""
        begin = lane * self.total // self.lanes
        return begin, min(self.cap, (lane + 1) * self.total // self.lanes - begin)

    def steps(self, length: int) -> int:
        """Return the number of windows of ``length`` until the longest lane ends."""
        longest = max(self.segment(lane)[1] for lane in range(self.lanes))
        return -(-longest // length)

    def span(self, lane: int, position: int, length: int) -> Span:
        """Return the lane's frames from ``position`` on; padding after its end."""
        begin, frames = self.segment(lane)
        if position < frames:
            return self.stream.span(begin + position, min(length, frames - position), not position)
        return Span(length, PADDING, 0, False)


class JudgedLanes:
    """The evaluation order in overlapping windows, so that no frame is judged without a past.

    A window of ``length`` frames begins with the ``before`` frames before those that it judges, and
    from a state of its own. What comes before the first frame of the split is padding.

    Args:
        order: The frames to judge.
        length: Frames of a window.
        before: Frames of it that are shown and not judged; fewer than ``length``.
    """

    def __init__(self, order: EvalLanes, length: int, before: int) -> None:
        self.order, self.lanes, self.length, self.before = order, order.lanes, length, before

    def steps(self, length: int) -> int:
        """Return the number of windows until the longest lane ends."""
        return self.order.steps(self.length - self.before)

    def span(self, lane: int, position: int, length: int) -> Span:
        """Return the lane's frames from ``position`` on, of one game and one window."""
        window, offset = divmod(position, self.length)
        begin, frames = self.order.segment(lane)
        place = window * (self.length - self.before) + offset - self.before
        run = min(length, self.length - offset)
        if begin + place < 0:
            return Span(min(run, -begin - place), PADDING, 0, not offset)
        if place >= frames:
            return Span(run, PADDING, 0, not offset)
        return self.order.stream.span(begin + place, min(run, frames - place), not offset)


def rank_lanes(lanes: int, rank: int, ranks: int) -> range:
    """Return the lanes of one rank; every rank has the same number."""
    if lanes % ranks:
        raise InputError(f"lanes={lanes}: must be a multiple of the {ranks} ranks")
    return range(rank * lanes // ranks, (rank + 1) * lanes // ranks)
