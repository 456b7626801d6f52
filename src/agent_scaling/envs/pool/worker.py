"""A worker process of the pool: steps its games on order and reports the episodes that ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

from agent_scaling.envs.families import Record, Views, find_game
from agent_scaling.envs.pool.memory import (
    RESET,
    STEP,
    choose_fields,
    control_fields,
    lane_fields,
    lane_views,
    map_fields,
)

LEAVE = 255  # instead of a group's number: exit
SPIN_S = 1e-4
"""Seconds for which a worker polls for its next order before it sleeps."""
LONG_S = 1e-3
"""Seconds of a move after which the worker sleeps at once, without polling."""


@dataclass(frozen=True)
class Assignment:
    """A worker's games and its connections, passed as JSON on its command line."""

    game: str
    lanes: int
    workers: int
    worker: int
    groups: list[list[int]]
    """Lanes of this worker by group, contiguous in each."""
    memory: int
    orders: int
    reports: int
    observations: list[str] = field(default_factory=list)
    """Names of the shared observations, in the memory's order."""
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the assignment as JSON, for the command line."""
        return json.dumps(asdict(self))


def send(reports: int, message: object = None) -> None:
    """Write a report: its length (4 bytes), then JSON; an empty report is length 0."""
    payload = b"" if message is None else json.dumps(message).encode()
    data = len(payload).to_bytes(4, "little") + payload
    while data:
        data = data[os.write(reports, data) :]


def next_order(orders: int, poll: select.poll, moved_at: float) -> bytes:
    """Read the next byte of a non-blocking pipe; empty when the pool has ended.

    After a short move, the worker polls for :data:`SPIN_S` before it sleeps: the pool's next order
    often comes sooner than a sleeping worker with cold caches would wake. After a long move, such
    as Atari's, waking is comparatively cheap and polling would occupy a core. The last move began
    at ``moved_at``.
    """
    now = time.perf_counter()
    sleep_at = now + SPIN_S if now - moved_at < LONG_S else now
    while True:
        try:
            return os.read(orders, 1)
        except BlockingIOError:
            if time.perf_counter() > sleep_at:
                poll.poll()


def serve(assignment: Assignment, control: Views, games: list[list[Any]]) -> None:
    """Move a group of games at each byte on the orders' pipe; return when the pool has ended."""
    moving, poll = control["moving"], select.poll()
    os.set_blocking(assignment.orders, False)
    poll.register(assignment.orders, select.POLLIN)
    moved_at = time.perf_counter()
    while (order := next_order(assignment.orders, poll, moved_at)) and order[0] != LEAVE:
        group, moved_at = order[0], time.perf_counter()
        lanes = assignment.groups[group]
        ended: list[tuple[int, Record]] = []
        if lanes:
            mine = slice(lanes[0], lanes[-1] + 1)
            commands, actions = control["command"][mine].tolist(), control["action"][mine].tolist()
            for lane, game, command, action in zip(
                lanes, games[group], commands, actions, strict=True
            ):
                moving[assignment.worker] = lane
                if command == STEP:
                    record = game.step(action)
                    if record is not None:
                        ended.append((lane, record))
                elif command == RESET:
                    game.reset(int(control["seed"][lane]))
        moving[assignment.worker] = -1
        send(assignment.reports, ended or None)


def main() -> None:
    """Run a worker; the assignment is the only command-line argument."""
    assignment = Assignment(**json.loads(sys.argv[1]))
    games: list[list[Any]] = []
    try:
        family = find_game(assignment.game)
        fields = control_fields(assignment.lanes, assignment.workers)
        shapes = choose_fields(family.observations, assignment.observations)
        fields |= lane_fields(shapes, assignment.lanes)
        arrays = map_fields(assignment.memory, fields)
        shown = {name: arrays[name] for name in shapes}
        games.extend(
            [family(lane_views(shown, lane), **assignment.options) for lane in lanes]
            for lanes in assignment.groups
        )
        send(assignment.reports)  # ready
        serve(assignment, arrays, games)
    except BrokenPipeError:
        pass  # the pool has ended
    except Exception:
        with contextlib.suppress(BrokenPipeError):
            send(assignment.reports, {"error": traceback.format_exc()})
    finally:
        for game in (game for group in games for game in group):
            game.close()
