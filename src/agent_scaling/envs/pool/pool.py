"""The environment pool: games in worker processes, observations and actions in shared memory."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agent_scaling.envs.families import Record, find_game
from agent_scaling.envs.pool.memory import (
    PARKED,
    RESET,
    STEP,
    choose_fields,
    control_fields,
    create_memory,
    deal_lanes,
    lane_fields,
    map_fields,
    memory_size,
)
from agent_scaling.envs.pool.processes import Nursery, Worker, WorkerLostError
from agent_scaling.envs.pool.worker import Assignment
from agent_scaling.runtime.errors import InputError

ATTEMPTS = 3
"""Number of workers that an episode may crash or hang by itself before it is given up."""
STARTING_S = 60.0
"""Least seconds that a worker is given to start; many at once on a busy machine are slow."""
MAX_LOSSES = 1000
"""Most workers that a pool replaces before it gives up; more mean that the machine kills them."""


@dataclass
class Report:
    """The events of one move of a group."""

    ended: list[tuple[int, Record]] = field(default_factory=list)
    """(lane, record) of each episode that ended; its lane is parked."""
    restarted: list[int] = field(default_factory=list)
    """Lanes whose worker was lost; they restart their episode from its seed."""


class Pool:
    """Lanes of games, one episode per lane at a time, moved in groups that take turns.

    The caller assigns seeds to lanes. Then, for each group in turn, it calls :meth:`receive`,
    chooses an action for each lane of :meth:`ready`, and calls :meth:`send`. While it chooses for
    one group, the workers move the others. A worker that crashes, hangs or is killed is replaced,
    and its lanes restart their episodes. The pool is a context manager. Its processes and files are
    removed at the end, even when this process is killed.

    A lane whose episode has ended (``Report.ended``, with the episode's record) is parked until it
    is assigned another. In endless play every lane needs a frame at every step: assign the ended
    lanes fresh seeds and call :meth:`begin` before the next :meth:`send`; they then show first
    frames. A game's reward is one of its observations, to be read between :meth:`receive` and
    :meth:`begin`.

    Args:
        game: Import path of a :class:`~agent_scaling.envs.families.Game`, ``module:Class``.
        lanes: Number of games played in parallel.
        workers: Number of processes.
        groups: Number of groups that take turns.
        options: Keyword arguments of the game, JSON values.
        observations: Names of the game's observations to share; None: all.
        patience: Seconds after which a silent worker counts as hung.
    """

    def __init__(
        self,
        game: str,
        *,
        lanes: int,
        workers: int,
        groups: int = 2,
        options: dict[str, Any] | None = None,
        observations: Sequence[str] | None = None,
        patience: float = 60.0,
    ) -> None:
        shown = choose_fields(find_game(game).observations, observations)
        self.lanes, self.workers, self.patience = lanes, workers, patience
        self.lost = 0
        """Number of workers lost so far."""
        fields = control_fields(lanes, workers) | lane_fields(shown, lanes)
        self._memory = create_memory(memory_size(fields))
        arrays = map_fields(self._memory, fields)
        self.observations = {name: arrays[name] for name in shown}
        """Arrays [lanes, …]; a group's part is stable between its receive and its send."""
        self.actions: npt.NDArray[np.int32] = arrays["action"]
        """[lanes] int32: the next action of each ready lane."""
        self._command, self._seed, self._moving = (
            arrays["command"], arrays["seed"], arrays["moving"]
        )  # fmt: skip
        dealt = deal_lanes(lanes, workers, groups)
        self.groups = [range(g[0].start, g[-1].stop) for g in dealt]
        """Lanes of each group."""
        self._blame = [0] * lanes
        self._changed = True
        self._ready: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)] * groups
        self._busy: list[list[int]] = [[]] * groups
        self._resetting: list[set[int]] = [set()] * groups
        self._sent = [[False] * workers for _ in range(groups)]
        self._orders: list[deque[int]] = [deque() for _ in range(workers)]
        self._early: dict[tuple[int, int], Any] = {}  # reports read while waiting for another
        self._assignments = [
            Assignment(
                game, lanes, workers, w, [list(g[w]) for g in dealt], self._memory, -1, -1,
                list(shown), options or {},
            )
            for w in range(workers)
        ]  # fmt: skip
        self._nursery = Nursery()
        self._workers: list[Worker] = []
        self._finalizer = weakref.finalize(
            self, _shut_down, self._workers, self._nursery, self._memory, os.getpid()
        )
        try:
            self._workers += [self._nursery.start(a) for a in self._assignments]
            for index in range(workers):
                self._await_ready(index)
        except BaseException:
            self.close()
            raise

    def assign(self, lane: int, seed: int) -> None:
        """Let ``lane`` begin the episode of ``seed`` at its group's next :meth:`send`."""
        self._seed[lane], self._command[lane], self._blame[lane] = seed, RESET, 0
        self._changed = True

    def ready(self, group: int) -> npt.NDArray[np.int64]:
        """Return the group's lanes that show a frame and wait for an action; a read-only array."""
        if self._changed:
            self._look()
        return self._ready[group]

    def send(self, group: int) -> None:
        """Let the group's games move by :attr:`actions`, or begin their assigned episodes."""
        if self._changed:
            self._look()
        sent = self._sent[group]
        for index in self._busy[group]:
            self._workers[index].order(group)
            self._orders[index].append(group)
            sent[index] = True

    def receive(self, group: int) -> Report:
        """Wait until the group has moved, and return its report."""
        report, sent = Report(), self._sent[group]
        for index in [index for index, waits in enumerate(sent) if waits]:
            if not sent[index]:
                continue  # replaced meanwhile
            sent[index] = False
            try:
                ended = self._read(index, group)
            except WorkerLostError as loss:
                self._replace(index, loss, report)
                continue
            if index in self._resetting[group]:
                lanes = self._assignments[index].groups[group]
                mine = self._command[lanes[0] : lanes[-1] + 1]
                mine[mine == RESET] = STEP
                self._changed = True
            for lane, record in ended or ():
                self._command[lane] = PARKED
                self._changed = True
                report.ended.append((lane, record))
        return report

    def begin(self, group: int) -> Report:
        """Let the group's assigned lanes begin their episodes now; its other lanes do not move.

        Call it between :meth:`receive` and :meth:`send`. A lane whose worker is lost meanwhile is
        in ``restarted``; call this method again for it.
        """
        lanes = self.groups[group]
        waiting = [lane for lane in lanes if self._command[lane] == STEP]
        workers = list(self._workers)
        self._command[waiting] = PARKED
        self._changed = True
        self.send(group)
        report = self.receive(group)
        for worker, assignment in zip(workers, self._assignments, strict=True):
            replaced = self._workers[assignment.worker] is not worker
            mine = [lane for lane in assignment.groups[group] if lane in waiting]
            self._command[mine] = RESET if replaced else STEP
            report.restarted += mine if replaced else []
        self._changed = True
        return report

    def _read(self, index: int, group: int) -> Any:
        """Read a worker's report on a group's move; its reports come in the order of its orders."""
        if self._early and (index, group) in self._early:
            return self._early.pop((index, group))
        orders = self._orders[index]
        while True:
            report, of = self._workers[index].read(self.patience), orders.popleft()
            if of == group:
                return report
            self._early[index, of] = report

    def _look(self) -> None:
        """Update each group's ready lanes and busy workers, after commands have changed."""
        self._changed = False
        for group, lanes in enumerate(self.groups):
            command = self._command[lanes.start : lanes.stop]
            self._ready[group] = np.flatnonzero(command == STEP) + lanes.start
            parts = [(a.worker, self._command[a.groups[group]]) for a in self._assignments]
            self._busy[group] = [index for index, part in parts if part.any()]
            self._resetting[group] = {index for index, part in parts if (part == RESET).any()}

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End the workers and remove their files."""
        self._finalizer()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _replace(self, index: int, loss: WorkerLostError, report: Report) -> None:
        """Replace a lost worker and restart its lanes; give up a lane that lost too many."""
        self.lost += 1
        self._changed = True
        if self.lost > MAX_LOSSES:
            raise InputError(
                f"{self.lost} game workers were lost, the last because {loss}: see the machine's "
                "memory, or give fewer workers="
            )
        self._workers[index].close(kill=True)
        self._orders[index].clear()
        culprit = int(self._moving[index])
        if loss.guilty and culprit >= 0:
            self._blame[culprit] += 1
            if self._blame[culprit] >= ATTEMPTS:
                self._command[culprit] = PARKED
                report.ended.append((culprit, {"end": "crashed", "death": str(loss)}))
        for group, lanes in enumerate(self._assignments[index].groups):
            self._sent[group][index] = False
            self._early.pop((index, group), None)
            for lane in lanes:
                if self._command[lane] != PARKED:
                    self._command[lane] = RESET
                    report.restarted.append(lane)
        self._moving[index] = -1
        self._workers[index] = self._nursery.start(self._assignments[index])
        self._await_ready(index)

    def _await_ready(self, index: int) -> None:
        """Wait for a worker's first report; replace a worker that is lost before it."""
        for _ in range(ATTEMPTS):
            try:
                self._workers[index].read(max(self.patience, STARTING_S))
                return
            except WorkerLostError as loss:
                reason = str(loss)
                self.lost += 1
                self._workers[index].close(kill=True)
                self._workers[index] = self._nursery.start(self._assignments[index])
        raise InputError(
            f"a game worker does not start: {reason}; see the machine's memory and limits "
            "(ulimit -a), or give fewer workers="
        )


def _shut_down(workers: list[Worker], nursery: Nursery, memory: int, owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the owner
    for worker in workers:
        worker.close()
    nursery.close()
    os.close(memory)
