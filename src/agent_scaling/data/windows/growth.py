"""Short training windows first: the order of frames stays, and a step has fewer of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent_scaling.data.batch import Batch
from agent_scaling.runtime.errors import InputError


class Place(NamedTuple):
    """A training step's frames: part ``part`` of ``parts`` equal ones of a full window."""

    window: int
    part: int
    parts: int


@dataclass(frozen=True)
class Growth:
    """The lengths of training windows, as a function of the step.

    The first windows have ``start`` frames of each lane. After ``doubling`` of them (rounded up to
    whole full windows) the length doubles, and so on up to ``full``.

    Args:
        full: T, frames of each lane in a full window.
        start: Frames of each lane in the first windows: ``full``, its half, its quarter, …
        doubling: Windows of each shorter length.

    Raises:
        InputError: ``start`` does not double to ``full``, or ``doubling`` is below 1.
    """

    full: int
    start: int
    doubling: int

    def __post_init__(self) -> None:
        """Refuse a first length that does not double to the full one."""
        parts = self.full // self.start if self.start > 0 else 0
        if parts * self.start != self.full or parts & (parts - 1):
            raise InputError(
                f"data.unroll_start={self.start}: must be data.unroll_length={self.full}, or its "
                "half, quarter, …"
            )
        if self.doubling < 1:
            raise InputError(f"data.unroll_doubling={self.doubling}: must be at least 1")

    def place(self, step: int) -> Place:
        """Return the frames of a step, counted from the run's first."""
        parts, window = self.full // self.start, 0
        while parts > 1:
            windows = -(-self.doubling // parts)
            if step < windows * parts:
                return Place(window + step // parts, step % parts, parts)
            step, window, parts = step - windows * parts, window + windows, parts // 2
        return Place(window + step, 0, 1)

    def frames(self, step: int) -> tuple[int, int]:
        """Return a step's first position in its lane, and its number of frames of each lane."""
        window, part, parts = self.place(step)
        length = self.full // parts
        return window * self.full + part * length, length

    def steps(self, frames: float) -> int:
        """Return the steps after which a lane has shown ``frames`` frames or more."""
        parts, steps = self.full // self.start, 0
        while parts > 1:
            windows = -(-self.doubling // parts)
            if frames <= windows * self.full:
                break
            steps, frames, parts = steps + windows * parts, frames - windows * self.full, parts // 2
        return steps + int(-(-frames // (self.full // parts)))


class Growing:
    """Iterable that cuts full windows into the shorter ones of a :class:`Growth`.

    Args:
        windows: Full windows, beginning with that of step ``start``.
        growth: The lengths.
        start: The first step.
    """

    def __init__(self, windows: Iterable[Batch], growth: Growth, start: int) -> None:
        self.windows, self.growth, self.start = windows, growth, start

    def __iter__(self) -> Iterator[Batch]:
        step = self.start
        for window in self.windows:
            _, part, parts = self.growth.place(step)
            step += parts - part
            if parts == 1:
                yield window
                continue
            length = window.steps // parts
            for begin in range(part * length, window.steps, length):
                yield window.between(begin, begin + length)
