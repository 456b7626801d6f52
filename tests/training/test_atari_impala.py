"""IMPALA on Atari by the command line: reproducible, resumable, counted; the raw score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from agent_scaling.config.call import call_verb
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.flops import flops_per_frame
from tests.helpers.runs import composed, train
from tests.helpers.stores import new_store

LANES, STEPS = 2, 10
SIZE = [f"data.lanes={LANES}", f"data.unroll_length={STEPS}", "data.asynchronous=false"]
SIZE.append("data.workers=1")
QUIET = [
    "callbacks.progress=null",
    "callbacks.model=null",
    "callbacks.rollouts=null",
    "callbacks.checkpoints.every_frames=null",
    "flops_budget=1e18",  # out of reach: runs are cut by their steps
]
SMALL = ["experiment=atari_impala", "policy.encoder.width=1", *SIZE, *QUIET]


def run(output: Path, updates: int, *more: str, small: list[str] = SMALL) -> dict[str, Any]:
    """Train in this process; the last checkpoint."""
    store = [
        f"output={output}",
        f"logger.tracking_uri={new_store(output.parent / 'mlflow.db')}",
        f"logger.artifact_location={output.parent}/artifacts",
    ]
    call_verb(composed("train", [*small, *store, f"trainer.max_steps={updates}", *more]))
    return read_checkpoint(output / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four updates by one worker."""
    return run(tmp_path_factory.mktemp("atari") / "run", 4, "data.workers=1")


def test_bit_reproducible_from_its_seed(whole: dict[str, Any], tmp_path: Path) -> None:
    again = run(tmp_path / "run", 4, "data.workers=2")
    assert again["frames"] == whole["frames"] == 4 * LANES * STEPS
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, again["state_dict"][name]), name


def test_resume_counts_on(whole: dict[str, Any], tmp_path: Path) -> None:
    before = run(tmp_path / "run", 2)
    unchanged = run(tmp_path / "run", 2, "ckpt_path=last")
    after = run(tmp_path / "run", 4, "ckpt_path=last")
    assert before["optimizer_states"][0]["param_groups"] == [
        {**group} for group in unchanged["optimizer_states"][0]["param_groups"]
    ]
    for name, tensor in before["state_dict"].items():
        assert torch.equal(tensor, unchanged["state_dict"][name]), name
    assert (after["frames"], after["worked"]) == (whole["frames"], whole["worked"])


def test_rollouts_are_of_whole_games_and_raw_scores(tmp_path: Path) -> None:
    """What ends an episode of training, and what clips its rewards, is not the game's own."""
    rollouts = {"episodes": 2, "every_frames": None, "at_milestones": True, "replays": False}
    target = "callbacks.rollouts={_target_:callbacks.rollouts.Rollouts,"
    given = ",".join(f"{k}:{str(v).lower()}" for k, v in rollouts.items())
    saved = run(tmp_path / "run", 1, target + given.replace("none", "null") + "}")
    policy = load_policy(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert policy.num_actions == 4
    assert policy.game.options == {"env": "Breakout"}
    forward = flops_per_frame(policy, training=False)
    (row,) = json.loads((tmp_path / "run" / "milestones.json").read_text())
    assert row["flops"] == forward * (saved["frames"] + 3 * LANES * (STEPS + 1))
    (table,) = [pd.read_parquet(path) for path in (tmp_path / "run" / "rollouts").glob("*.parquet")]
    assert list(table["end"]) == ["over"] * 2
    assert list(table["lives"]) == [0, 0]
    assert row["rollout/return_mean"] == table["return"].mean()


def test_a_clone_continues_by_playing(atari_shards: Path, tmp_path: Path) -> None:
    """Until the critic has warmed up, the policy and its mean screen are the clone's."""
    own = ["experiment=atari_bc_compact", "data.val_frames=64"]
    more = ["data.val_lanes=2", "trainer.max_steps=3", "callbacks.reference_players=null"]
    train(atari_shards, tmp_path / "clone", *own, *more, *QUIET)
    clone = tmp_path / "clone" / "checkpoints" / "last.ckpt"
    own = ["experiment=atari_kickstart", f"policy.path={clone}", "data.options.env=Breakout"]
    # So few steps may bring no reward, and then the entropy alone moves the policy.
    own += [f"module.critic_frames={2 * LANES * STEPS}", "module.objective.entropy_cost=0.1"]

    run(tmp_path / "run", 2, *own, small=[*SIZE, *QUIET])
    before = load_policy(clone).state_dict()
    warm = load_policy(tmp_path / "run" / "checkpoints" / "last.ckpt").state_dict()
    assert set(warm) - set(before) == {"baseline.weight", "baseline.bias"}
    assert not [name for name, value in before.items() if not value.equal(warm[name])]

    saved = run(tmp_path / "run", 3, *own, "ckpt_path=last", small=[*SIZE, *QUIET])
    after = load_policy(tmp_path / "run" / "checkpoints" / "last.ckpt").state_dict()
    assert not after["encoder.enter.weight"].equal(before["encoder.enter.weight"])
    assert not after["encoder.centring.mean"].equal(before["encoder.centring.mean"])
    assert saved["worked"]["teaching"] == saved["frames"] == 3 * LANES * STEPS
