"""Watches a sweep by the files of its runs, wherever a launcher trains them."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_scaling.studies.plan_file import Plan, Run
from agent_scaling.studies.run_cell import PREEMPTED, State, log_of, outcome, reached_of
from agent_scaling.tracking.milestones import milestones
from agent_scaling.tracking.standing import Standing, standings

SILENT = 600.0
"""Seconds without a word from a run after which its time left is no longer told."""

GOING: tuple[State, ...] = ("to do", "running")
"""States of runs that the sweep will yet end."""


@dataclass(frozen=True)
class Now:
    """One run at one moment.

    Attributes:
        state: By the files alone: ``running`` also where the machine that trained it has died.
        done: FLOPs that it has trained, branches included, in the plan's convention.
        standing: The latest of its own and of its branches; ``None``: it has not begun to train.
    """

    run: Run
    state: State = "to do"
    done: float = 0.0
    standing: Standing | None = None

    @property
    def share(self) -> float:
        """Share of its FLOPs that it has trained, at most 1."""
        return min(self.done / self.run.trained, 1.0)

    @property
    def speed(self) -> float:
        """FLOP/s in the plan's convention; 0: not known."""
        return self.standing.frames_per_second * self.run.cost if self.standing else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training to go, at the latest speed."""
        heard = self.standing is not None and time.time() - self.standing.written < SILENT
        return (self.run.trained - self.done) / self.speed if heard and self.speed else None


def look(run: Run, folder: Path) -> Now:
    """Read where a run of the plan in ``folder`` stands.

    No lock is asked for, unlike :func:`~agent_scaling.studies.run_cell.progress`: a look at the
    wrong moment would keep a run from beginning.
    """
    output = run.output(folder)
    if not log_of(output).exists():
        return Now(run)
    rows, found = milestones(output), dict(standings(output))
    status = outcome(output)
    latest = max(found.values(), key=lambda one: one.written, default=None)
    reached = reached_of(run, rows)
    if status is None:
        state: State = "running"
    elif status == 0 and len(reached) == len(run.budgets):
        state = "finished"
    else:
        state = "stopped" if status in (0, PREEMPTED) or status < 0 else "failed"
    done = run.trained if state == "finished" else trained(run, reached, found)
    return Now(run, state, done, latest)


def trained(run: Run, reached: Collection[float], found: Mapping[str, Standing]) -> float:
    """FLOPs that a run has trained, its branches included, in the plan's convention."""
    trunk = found[""].frames * run.cost if "" in found else 0.0
    branches = run.branched * sum(b for b in run.budgets[:-1] if b in reached)
    if not run.branched:
        trunk = max([trunk, *reached])
    return min(trunk, run.budgets[-1]) + branches


@dataclass
class Watch:
    """All runs of a plan, their times, and those of the whole.

    Attributes:
        now: The runs by name, as :meth:`update` last saw them.
    """

    made: Plan
    folder: Path
    now: dict[str, Now] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _first: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Time and FLOPs at which a run was first seen running."""
    _extra: list[float] = field(default_factory=list)
    """Seconds that each run which was seen to its end took beside its training."""
    _speeds: dict[int, float] = field(default_factory=dict)
    """FLOP/s by parameters, as last seen."""
    _slots: int = 1
    """The most runs that were seen at a time."""

    def update(self) -> list[Now]:
        """Look at all runs; return those that have ended since the last look."""
        ended = []
        for run in self.made.runs:
            before = self.now.get(run.name, Now(run))
            if before.state == "finished":
                continue
            found = self.now[run.name] = look(run, self.folder)
            self._note(found)
            if before.state in GOING and found.state not in GOING:
                ended.append(found)
        self._slots = max(self._slots, len(self.of("running")))
        return ended

    def of(self, *states: State) -> list[Now]:
        """Return the runs in one of these states, in the plan's order."""
        return [one for one in self.now.values() if one.state in states]

    @property
    def seconds(self) -> float:
        """Seconds since the sweep began."""
        return time.monotonic() - self._began

    def took(self, name: str) -> float | None:
        """Seconds since a run was first seen running; ``None``: it was never seen so."""
        return time.monotonic() - self._first[name][0] if name in self._first else None

    @property
    def share(self) -> float:
        """Share of the FLOPs of all runs that is trained."""
        return sum(n.done for n in self.now.values()) / sum(
            n.run.trained for n in self.now.values()
        )

    def seconds_left(self) -> float | None:
        """Seconds until all runs that are not finished will be, about; ``None``: not known yet.

        Each takes its FLOPs over the speed of the size that is nearest to its own, and what the
        finished ones took on the average to begin, to be tested and to play.
        """
        beside = sum(self._extra) / len(self._extra) if self._extra else 0.0
        each = []
        for one in self.of(*GOING):
            speed = self._speed(one)
            if not speed:
                return None
            spent = self.took(one.run.name) or 0.0
            training = (one.run.trained - one.done) / speed
            begun = one.done > 0 or one.standing is not None
            each.append(training + (max(beside - spent, beside / 2) if begun else beside))
        return max(sum(each) / self._slots, max(each)) if each else 0.0

    def _note(self, one: Now) -> None:
        name = one.run.name
        if one.state == "running":
            self._first.setdefault(name, (time.monotonic(), one.done))
        if one.speed:
            self._speeds[one.run.params] = one.speed
        if one.state == "finished" and name in self._first and (speed := self._speed(one)):
            began, done = self._first[name]
            training = (one.run.trained - done) / speed
            self._extra.append(max(time.monotonic() - began - training, 0.0))

    def _speed(self, one: Now) -> float | None:
        """FLOP/s of a run: its own, else that of the nearest size, else the plan's."""
        if one.speed:
            return one.speed
        if self._speeds:
            near = min(self._speeds, key=lambda n: abs(math.log(n / one.run.params)))
            return self._speeds[near]
        planned = self.made.speed(one.run.params)
        return planned and planned * one.run.cost / one.run.model_cost
