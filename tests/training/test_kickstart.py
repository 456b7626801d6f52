"""From a clone to a player: one run of NetHack, with a teacher, demonstrations and a warm-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from agent_scaling.config.call import call_verb
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from tests.helpers.runs import composed, train
from tests.helpers.stores import new_store

LANES, STEPS, UPDATES = 3, 8, 4
FRAMES = LANES * STEPS


def kickstart(shards: Path, clone: Path, output: Path, *more: str) -> dict[str, Any]:
    overrides = [
        "experiment=nethack_kickstart",
        f"policy.path={clone}",
        f"data.demonstrations.shards={shards}",
        "data.demonstrations.lanes=2",
        "data.demonstrations.unroll_length=6",
        "data.demonstrations.val_lanes=2",
        "data.demonstrations.val_frames=60",
        f"data.unrolls.lanes={LANES}",
        f"data.unrolls.unroll_length={STEPS}",
        "data.unrolls.workers=1",
        "data.unrolls.asynchronous=false",
        f"module.critic_frames={2 * FRAMES}",
        "module.cloning={_target_: agent_scaling.training.objectives.teacher.Ramp, "
        "frames: [0], weights: [0.1]}",
        "optimizer.lr=3e-3",
        f"callbacks.tracking.every_frames={FRAMES}",
        "callbacks.rollouts=null",
        "callbacks.reference_players=null",
        "callbacks.progress=null",
        "callbacks.model=null",
        f"output={output}",
        f"logger.tracking_uri={new_store(output.parent / 'mlflow.db')}",
        f"logger.artifact_location={output.parent}/artifacts",
        "flops_budget=1e18",
        *more,
    ]
    call_verb(composed("train", overrides))
    return read_checkpoint(output / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def clone(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of a few steps of behavioural cloning."""
    output = tmp_path_factory.mktemp("clone") / "run"
    more = ["flops_budget=1e18", "trainer.max_steps=3", "callbacks.reference_players=null"]
    train(tiny_shards, output, *more)
    return output / "checkpoints" / "last.ckpt"


def test_kickstart_and_resume(tiny_shards: Path, clone: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    warm = kickstart(tiny_shards, clone, output, "trainer.max_steps=2")
    before, after = load_policy(clone), load_policy(output / "checkpoints" / "last.ckpt")
    changed = {
        name
        for name, value in after.state_dict().items()
        if not value.equal(before.state_dict()[name])
    }
    assert changed == {"baseline.weight", "baseline.bias"}
    assert warm["MixedDataModule"]["step"] == 2

    ends = kickstart(tiny_shards, clone, output, f"trainer.max_steps={UPDATES}", "ckpt_path=last")
    assert ends["frames"] == UPDATES * FRAMES
    assert ends["MixedDataModule"]["step"] == UPDATES
    assert ends["worked"] == {
        "acting": UPDATES * FRAMES,
        "learning": UPDATES * LANES * (STEPS + 1),
        "teaching": UPDATES * FRAMES,
        "cloning": UPDATES * 2 * 6,
    }
    assert ends["demo_state"][0].shape[1] == 2
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = (output / "mlflow_run_id").read_text()
    divergences = {p.step: p.value for p in client.get_metric_history(run_id, "train/teacher_kl")}
    # Until the critic has warmed up, the policy is its teacher.
    assert divergences[FRAMES] == pytest.approx(0, abs=1e-6)
    assert divergences[2 * FRAMES] == pytest.approx(0, abs=1e-6)
    assert divergences[UPDATES * FRAMES] > 1e-6
    logged = client.get_run(run_id).data.metrics
    assert {"val/nats", "train/cloning_nats", "flops_teaching", "data/epoch"} <= set(logged)
