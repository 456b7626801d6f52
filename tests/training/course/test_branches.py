"""Branches: each has the bits of a run of its own, and the run's bits do not depend on them."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer
from mlflow import MlflowClient

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.formats import compact
from agent_scaling.scaling.runs.mlflow_runs import read_mlflow
from agent_scaling.tracking.milestones import milestones
from agent_scaling.training.hooks import HasBudget, find, run_module
from tests.helpers.runs import UNCOMPARED, train
from tests.training.test_resume import COMPARED, assert_same

LAST = "checkpoints/last.ckpt"
BUDGETS = (4.67e9, 8.76e9, 1.46e10)
"""FLOPs of 551, 1,034 and 1,723 frames; branches leave at 468 and 855."""
SETTINGS = [
    "schedule=cooldown",
    "schedule.warmup=1.2e9",
    f"flops_budget={BUDGETS[-1]}",
    "callbacks.tracking.every_frames=64",
    "callbacks.ema.decay=0.9",
    "data.unroll_start=4",  # windows still grow where branches leave and runs stop
    "data.unroll_doubling=15",
    *UNCOMPARED,
    "tags.study=branched",
]
WITH = f"milestones={list(BUDGETS[:-1])}"


@pytest.fixture(scope="module")
def branched(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with two branches."""
    output = tmp_path_factory.mktemp("branched") / "run"
    train(tiny_shards, output, *SETTINGS, WITH)
    return output


def folder_of(budget: float, output: Path) -> Path:
    """The folder that ends at a budget: the run's, or that of one of its branches."""
    return output if budget == BUDGETS[-1] else output / "branches" / compact(budget)


def table(output: Path) -> list[dict[str, Any]]:
    """A folder's rows of milestones, without what clocks say."""
    rows = json.loads((output / "milestones.json").read_text())
    return [{**row, "cpu_seconds": None} for row in rows]


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_branch_and_the_run_have_the_bits_of_runs_of_their_own(
    tiny_shards: Path, branched: Path, tmp_path: Path, budget: float
) -> None:
    train(tiny_shards, tmp_path / "own", *SETTINGS, f"flops_budget={budget}")
    mine = folder_of(budget, branched)
    ours, theirs = (read_checkpoint(folder / LAST) for folder in (mine, tmp_path / "own"))
    for part in (*COMPARED, "averaging_state", "current_model_state"):
        assert_same(ours[part], theirs[part], part)
    assert table(mine) == table(tmp_path / "own")
    assert [row["milestone"] for row in table(mine)] == [budget]


def test_fit_reads_a_cell_per_budget(branched: Path) -> None:
    store = f"sqlite:///{branched.parent}/mlflow.db"
    cells = read_mlflow("branched", None, store).table
    assert sorted(cells["flops"]) == list(BUDGETS)
    assert cells["run"].nunique() == len(BUDGETS)
    client = MlflowClient(store)
    trunk = (branched / "mlflow_run_id").read_text()
    for row in milestones(branched):
        (cell,) = cells[cells["flops"] == row["milestone"]].to_dict("records")
        assert cell["val/nats"] == row["val/nats"]
        run = client.get_run(cell["run"])
        assert run.info.status == "FINISHED"
        assert run.data.tags["budget"] == compact(row["milestone"])
        assert run.data.tags.get("branch_of", cell["run"]) == trunk


def test_a_branch_resumes_exactly_and_what_is_done_stays(
    tiny_shards: Path, branched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, first = tmp_path / "run", BUDGETS[0]
    stop = "+callbacks.stop={_target_: tests.training.course.test_branches.StopsAt, "
    for budget, frames in ((BUDGETS[-1], 1000), (first, 500), (BUDGETS[1], 900)):
        at = f"{stop}budget: {budget}, frames: {frames}}}"
        with pytest.raises(SystemExit) as stopped:
            train(tiny_shards, output, *SETTINGS, WITH, "ckpt_path=last", at)
        assert stopped.value.code == 128 + signal.SIGTERM
        assert f"to go on: ckpt_path=last output={output}\n" in capsys.readouterr().out
    assert not milestones(folder_of(BUDGETS[1], output))
    before = (folder_of(first, output) / LAST).stat().st_mtime_ns
    train(tiny_shards, output, *SETTINGS, WITH, "ckpt_path=last")
    said = capsys.readouterr().out
    assert "another learning-rate schedule" not in said
    assert "in all" in said
    for budget in BUDGETS:  # the table at the end fits a terminal
        assert re.search(
            rf"^ +{re.escape(compact(budget))} +[\d,]+ +\d\.\d+ ± ", said, re.MULTILINE
        )
    assert (folder_of(first, output) / LAST).stat().st_mtime_ns == before
    for budget in BUDGETS:
        ours, theirs = (read_checkpoint(folder_of(budget, f) / LAST) for f in (output, branched))
        for part in COMPARED:
            assert_same(ours[part], theirs[part], part)
        assert table(folder_of(budget, output)) == table(folder_of(budget, branched))


class StopsAt(Callback):
    """Sends its own process SIGTERM once the run of a budget has trained on so many frames."""

    def __init__(self, budget: float, frames: int) -> None:
        self.budget, self.frames = budget, frames

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        budget = find(trainer, HasBudget)
        due = run_module(pl_module).frames >= self.frames
        if budget and budget.budget == self.budget and due:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["milestones=[1.2e8]"], "1.2e8 FLOPs cool down from an earlier step"),
        ([WITH, "callbacks.tracking=null"], "callbacks.tracking=null: branches need it"),
        ([WITH, "schedule.unit=frames", "schedule.horizon=99"], "schedule.branches=true: "),
        ([WITH, "schedule.hold=0"], "schedule.branches=true: "),
    ],
)
def test_branches_that_cannot_be(
    tiny_shards: Path, tmp_path: Path, wrong: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        train(tiny_shards, tmp_path / "run", *SETTINGS, "schedule.warmup=0", *wrong)
