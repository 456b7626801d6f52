"""A worker process: steps its games when told to, and reports the episodes that ended."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from agent_scaling.envs.game import Record, Views, find_game
from agent_scaling.envs.memory import (
    RESET,
    STEP,
    control_fields,
    lane_fields,
    lane_views,
    map_fields,
)

LEAVE = 255  # instead of a group's number: exit


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to know; travels as JSON on its command line."""

    game: str
    lanes: int
    workers: int
    worker: int
    groups: list[list[int]]
    """Lanes of this worker by group, contiguous in each."""
    memory: int
    orders: int
    reports: int
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def send(reports: BinaryIO, message: Any = None) -> None:
    """Length (4 bytes) and JSON; nothing to say is four zeros."""
    payload = b"" if message is None else json.dumps(message).encode()
    reports.write(len(payload).to_bytes(4, "little") + payload)
    reports.flush()


def serve(
    assignment: Assignment, control: Views, games: list[list[Any]], reports: BinaryIO
) -> None:
    """Move a group of games at each byte on the orders' pipe; return when the pool is gone."""
    moving = control["moving"]
    while (order := os.read(assignment.orders, 1)) and order[0] != LEAVE:
        group = order[0]
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
        send(reports, ended or None)


def main() -> None:
    """Entry point: the assignment is the only argument."""
    assignment = Assignment(**json.loads(sys.argv[1]))
    with os.fdopen(assignment.reports, "wb") as reports:
        try:
            family = find_game(assignment.game)
            fields = control_fields(assignment.lanes, assignment.workers)
            fields |= lane_fields(family.observations, assignment.lanes)
            arrays = map_fields(assignment.memory, fields)
            shown = {name: arrays[name] for name in family.observations}
            games = [
                [family(lane_views(shown, lane), **assignment.options) for lane in lanes]
                for lanes in assignment.groups
            ]
            send(reports)  # ready
            serve(assignment, arrays, games, reports)
        except BrokenPipeError:
            return
        except Exception:
            send(reports, {"error": traceback.format_exc()})
            sys.exit(1)
        for game in (game for group in games for game in group):
            game.close()
