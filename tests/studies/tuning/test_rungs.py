"""A run that goes on to the next rung has the bits of one that was planned with both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.formats import compact
from agent_scaling.studies.tuning.rungs import rejoin
from tests.helpers.runs import UNCOMPARED, train
from tests.training.test_resume import COMPARED, assert_same

RUNGS = (9e8, 1.7e9, 2.9e9)
LAST = "checkpoints/last.ckpt"


def table(folder: Path) -> list[dict[str, Any]]:
    """A folder's rows of milestones, without what clocks say."""
    rows = json.loads((folder / "milestones.json").read_text())
    return [{**row, "cpu_seconds": None} for row in rows]


def climb(shards: Path, output: Path, schedule: str) -> None:
    """Train a run to each rung in turn."""
    for number, rung in enumerate(RUNGS):
        if number:
            rejoin(output, RUNGS[number - 1])
            rejoin(output, RUNGS[number - 1])  # after a kill before its plan was written
        below = f"milestones={list(RUNGS[:number])}"
        train(
            shards, output, schedule, f"flops_budget={rung}", below, "ckpt_path=last", *UNCOMPARED
        )


def test_with_a_rate_that_falls(tiny_shards: Path, tmp_path: Path) -> None:
    planned, climbed = tmp_path / "planned", tmp_path / "climbed"
    below = f"milestones={list(RUNGS[:-1])}"
    schedule = "schedule=cooldown"
    train(tiny_shards, planned, schedule, f"flops_budget={RUNGS[-1]}", below, *UNCOMPARED)
    climb(tiny_shards, climbed, schedule)
    for rung in RUNGS:
        branch = Path("branches", compact(rung)) if rung < RUNGS[-1] else Path()
        assert table(climbed / branch) == table(planned / branch)
        assert len(table(climbed / branch)) == 1
        assert (climbed / branch / table(climbed / branch)[0]["checkpoint"]).exists()
    saved, other = (read_checkpoint(folder / LAST) for folder in (planned, climbed))
    for key in COMPARED:
        assert_same(saved[key], other[key])


def test_with_a_constant_rate(tiny_shards: Path, tmp_path: Path) -> None:
    planned, climbed = tmp_path / "planned", tmp_path / "climbed"
    below = f"milestones={list(RUNGS[:-1])}"
    train(tiny_shards, planned, f"flops_budget={RUNGS[-1]}", below, *UNCOMPARED)
    climb(tiny_shards, climbed, "schedule=constant")
    assert table(climbed) == table(planned)
    assert len(table(climbed)) == len(RUNGS)
