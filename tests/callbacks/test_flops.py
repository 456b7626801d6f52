"""Budgets and milestones in another convention, and what a run logs in each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.flops import BUDGETS, flops_per_frame
from agent_scaling.runtime.errors import InputError
from callbacks.flops import FlopBudget
from tests.helpers.runs import STEP_FRAMES, UNCOMPARED, train


def test_budget_counts_in_its_convention(tiny_shards: Path, tmp_path: Path) -> None:
    budget, milestone, output = 1.5e9, 8e8, tmp_path / "run"
    more = ["callbacks.flops.convention=6nd", f"flops_budget={budget}", f"milestones=[{milestone}]"]
    train(tiny_shards, output, *more, *UNCOMPARED)
    last = output / "checkpoints" / "last.ckpt"
    policy, frames = load_policy(last), read_checkpoint(last)["frames"]
    per_frame = 6 * policy.num_params
    rows = json.loads((output / "milestones.json").read_text())
    assert [row["milestone"] for row in rows] == [milestone, budget]
    for row in rows:
        assert (
            row["milestone"]
            <= row["frames"] * per_frame
            < row["milestone"] + STEP_FRAMES * per_frame
        )
        assert row["flops"] == row["frames"] * flops_per_frame(policy)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    logged = client.get_run((output / "mlflow_run_id").read_text()).data.metrics
    for convention in BUDGETS:
        name = "flops" if convention == "model" else f"flops_{convention}"
        assert logged[name] == frames * flops_per_frame(policy, convention)


@pytest.mark.parametrize("convention", ["hardware", "5nd"])
def test_conventions_that_budgets_cannot_be_in(convention: str) -> None:
    with pytest.raises(InputError, match=convention):
        FlopBudget(1e9, convention=convention)  # type: ignore[arg-type]
