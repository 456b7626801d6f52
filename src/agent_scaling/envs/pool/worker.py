"""A worker process of the pool: steps its games on order and reports the episodes that ended."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
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
NOTHING = bytes(4)
"""A report without content."""


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
    """Write a report: its length (4 bytes), then JSON; :data:`NOTHING` without a message."""
    payload = b"" if message is None else json.dumps(message).encode()
    data = len(payload).to_bytes(4, "little") + payload
    while data:
        data = data[os.write(reports, data) :]


@dataclass(frozen=True)
class Movers:
    """A group's games of this worker, with what moves them ready at hand."""

    lanes: list[int]
    steps: list[Callable[[int], Record | None]]
    resets: list[Callable[[int], None]]
    commands: memoryview
    actions: memoryview
    """The lanes' part of the shared arrays: reading a memoryview costs less than numpy's item."""


def movers(lanes: list[int], games: list[Any], control: Views) -> Movers:
    """Return the movers of a group; its lanes are contiguous."""
    mine = slice(lanes[0], lanes[-1] + 1) if lanes else slice(0)
    steps, resets = [game.step for game in games], [game.reset for game in games]
    commands, actions = control["command"].data[mine], control["action"].data[mine]
    return Movers(lanes, steps, resets, commands, actions)


def serve(assignment: Assignment, control: Views, games: list[list[Any]]) -> None:
    """Move a group of games at each byte on the orders' pipe; return when the pool has ended.

    Between orders the worker sleeps: polling for the next order would cost more CPU time than it
    takes to wake up.
    """
    moving, seeds = control["moving"].data, control["seed"]
    me, orders, reports = assignment.worker, assignment.orders, assignment.reports
    groups = [movers(*part, control) for part in zip(assignment.groups, games, strict=True)]
    while (order := os.read(orders, 1)) and order[0] != LEAVE:
        group = groups[order[0]]
        ended: list[tuple[int, Record]] = []
        for lane, step, reset, command, action in zip(
            group.lanes,
            group.steps,
            group.resets,
            group.commands.tolist(),
            group.actions.tolist(),
            strict=True,
        ):
            moving[me] = lane
            if command == STEP:
                record = step(action)
                if record is not None:
                    ended.append((lane, record))
            elif command == RESET:
                reset(int(seeds[lane]))
        moving[me] = -1
        if ended:
            send(reports, ended)
        else:
            os.write(reports, NOTHING)


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
