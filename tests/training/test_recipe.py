"""The whole recipe in runs of the command: it resumes bit-exactly, and says what it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

import agent_scaling
from agent_scaling.evaluation.held_out import evaluate
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import build_policy, check_weights
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule
from tests.helpers.runs import STEP_FRAMES, UNCOMPARED, train
from tests.training.test_resume import COMPARED, assert_same

RECIPE = [
    "optimizer=adamw",
    "optimizer.mup=true",
    "optimizer.base.params=null",
    "+optimizer.base.encoder={width: 8, map_width: 8, status_width: 8}",
    "+optimizer.base.core={width: 8}",
    "schedule=cosine",
    "schedule.unit=frames",
    f"schedule.warmup={4 * STEP_FRAMES}",
    f"schedule.horizon={24 * STEP_FRAMES}",
    "trainer.accumulate_grad_batches=3",
    "callbacks.ema.decay=0.7",
    *UNCOMPARED,
    f"callbacks.tracking.every_frames={STEP_FRAMES}",
    "flops_budget=1e18",
]
BOTH = (*COMPARED, "current_model_state", "averaging_state")


@pytest.fixture(scope="module")
def whole(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("recipe") / "run"
    train(tiny_shards, output, *RECIPE, "trainer.max_steps=8")
    return output


def test_recipe_resumes_bit_exactly(tiny_shards: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    for steps in (3, 4, 8):
        train(tiny_shards, output, *RECIPE, f"trainer.max_steps={steps}", "ckpt_path=last")
    ours, theirs = (read_checkpoint(o / "checkpoints" / "last.ckpt") for o in (output, whole))
    assert ours["frames"] == 8 * 3 * STEP_FRAMES
    assert ours["ShardsDataModule"]["step"] == 8 * 3
    for part in BOTH:
        assert_same(ours[part], theirs[part], part)


def test_rate_and_norm_are_logged_at_steps_of_the_optimiser(whole: Path) -> None:
    client = MlflowClient(f"sqlite:///{whole.parent}/mlflow.db")
    run_id = (whole / "mlflow_run_id").read_text()
    rates = {p.step: p.value for p in client.get_metric_history(run_id, "train/lr")}
    assert list(rates) == [step * 3 * STEP_FRAMES for step in range(1, 9)]
    assert rates[3 * STEP_FRAMES] == pytest.approx(0.75e-3)  # warming up
    assert rates[24 * STEP_FRAMES] == pytest.approx(1e-4)  # final: 0.1
    norms = client.get_metric_history(run_id, "train/grad_norm")
    assert [p.step for p in norms] == list(rates)
    assert all(p.value > 0 for p in norms)


def test_the_average_is_what_is_evaluated_and_loaded(tiny_shards: Path, whole: Path) -> None:
    last = whole / "checkpoints" / "last.ckpt"
    saved = read_checkpoint(last)
    name = "policy.core.lstm.weight_hh_l0"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])
    policy = agent_scaling.load_policy(last)
    assert torch.equal(
        policy.get_parameter(name.removeprefix("policy.")), saved["state_dict"][name]
    )
    data = ShardsDataModule(str(tiny_shards), 4, 16, val_lanes=4, val_frames=128)
    (row,) = json.loads((whole / "milestones.json").read_text())
    found = evaluate(policy, data.val_dataloader(), data.val_games)
    assert row["val/nats"] == pytest.approx(found["nats"], rel=1e-6)
    policy.load_state_dict(
        {k.removeprefix("policy."): v for k, v in saved["current_model_state"].items()}
    )
    assert evaluate(policy, data.val_dataloader(), data.val_games)["nats"] != found["nats"]


def test_an_average_is_of_the_weights_after_each_step(tiny_shards: Path, tmp_path: Path) -> None:
    name, states = "policy.policy.weight", []
    more = ["callbacks.ema.decay=0.7", "flops_budget=1e18", *UNCOMPARED]
    for steps in (1, 2, 3):
        train(tiny_shards, tmp_path / "run", *more, f"trainer.max_steps={steps}", "ckpt_path=last")
        states.append(read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt"))
    average = states[0]["current_model_state"][name]
    for state in states:
        average = 0.7 * average + 0.3 * state["current_model_state"][name]
        torch.testing.assert_close(state["state_dict"][name], average)
    # Indices in buffers are whole numbers, and stay them.
    policy = build_policy(states[-1]["policy_config"])
    weights = {k.removeprefix("policy."): v for k, v in states[-1]["state_dict"].items()}
    check_weights(policy, weights, "averaged")
    counted = [v for k, v in states[-1]["state_dict"].items() if k.endswith("batches_tracked")]
    assert {int(v) for v in counted} == {3}


def test_runs_that_cannot_go_on(tiny_shards: Path, whole: Path) -> None:
    more = [*RECIPE, "ckpt_path=last", "trainer.max_steps=9"]
    with pytest.raises(InputError, match="has an average of the weights"):
        train(tiny_shards, whole, *more, "callbacks.ema.decay=null")
    with pytest.raises(InputError, match="another optimizer="):
        train(tiny_shards, whole, *more, "optimizer.mup=false")


def test_a_decaying_rate_is_told(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = [*UNCOMPARED, "schedule=cosine"]
    output = tmp_path / "run"
    train(tiny_shards, output, *quiet, "flops_budget=1e9", "milestones=[5e8]")
    assert "milestones below the end of schedule=cosine, 1e+09 flops" in capsys.readouterr().out
    train(tiny_shards, output, *quiet, "flops_budget=2e9", "ckpt_path=last")
    said = capsys.readouterr().out
    assert "was 0.1 of optimizer.lr" in said
    assert "its end moved from 1e+09 flops to 2e+09 flops; schedule.horizon=1e+09 would" in said
    assert "milestones below" not in said
