"""A checkpoint of the second release plays, is trained further, and learns by playing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from agent_scaling import load_policy
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.policies.checkpoints.published import import_checkpoint
from tests.helpers.released_network import drawn_flags, drawn_weights
from tests.helpers.runs import UNCOMPARED, train
from tests.training.test_kickstart import FRAMES, kickstart


@pytest.fixture(scope="module", params=["mamba", "llama"])
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network without the inventory, which the shards of the tests do not have."""
    folder = tmp_path_factory.mktemp("imported")
    flags = drawn_flags(str(request.param), 1)
    flags["network"] |= {"use_inventory": False, "obs_frame_stack": 1}
    weights = drawn_weights(flags["network"], 1)
    torch.save({"model_state_dict": weights, "flags": flags}, folder / "theirs.tar")
    import_checkpoint(ckpt=str(folder / "theirs.tar"), output=str(folder / "ours.ckpt"))
    return folder / "ours.ckpt"


def test_it_plays(imported: Path, tmp_path: Path) -> None:
    rollout(
        ckpt=str(imported), output=str(tmp_path / "out"), episodes=2, max_episode_steps=20,
        workers=1,
    )  # fmt: skip
    episodes = pd.read_parquet(tmp_path / "out" / "episodes.parquet")
    assert episodes["steps"].tolist() == [20, 20]


def test_it_is_trained_further(imported: Path, tiny_shards: Path, tmp_path: Path) -> None:
    train(
        tiny_shards, tmp_path / "run", "experiment=nethack_bc", "policy=checkpoint",
        f"policy.path={imported}", "flops_budget=1e18", *UNCOMPARED,
        "trainer.max_steps=2", "data.val_frames=64",
    )  # fmt: skip
    before, after = load_policy(imported), load_policy(tmp_path / "run/checkpoints/last.ckpt")
    assert type(after.core) is type(before.core)
    moved = [n for n, p in before.named_parameters() if not p.equal(after.get_parameter(n))]
    assert len(moved) > 20
    assert after.baseline is None


def test_it_learns_by_playing(imported: Path, tiny_shards: Path, tmp_path: Path) -> None:
    """It has no baseline: one is added, which answers 0, as these short games' rewards are."""
    found = kickstart(tiny_shards, imported, tmp_path / "run", "trainer.max_steps=3")
    assert found["frames"] == 3 * FRAMES
    before, after = load_policy(imported), load_policy(tmp_path / "run/checkpoints/last.ckpt")
    assert before.baseline is None
    assert after.baseline is not None
    assert not after.baseline.weight.any()
    assert not before.policy.weight.equal(after.policy.weight)
