"""Every core trains from the command line's config, goes on bit-exactly, and plays."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from tests.helpers.runs import STEP_FRAMES, UNCOMPARED, train_in_parts
from tests.training.test_resume import COMPARED, assert_same

CORES = {
    "lstm": ["policy/core=lstm"],
    "transformer": ["policy/core=transformer", "policy.core.layers=2", "policy.core.context=24"],
    "none": ["policy/core=none", "policy.encoder.frames=2"],
    "mamba": ["policy/core=mamba", "policy.core.layers=2", "policy.params=2e4"],
    "mamba1": ["policy/core=mamba1", "policy.core.layers=2"],
}


@pytest.mark.parametrize("core", CORES)
def test_core_trains_resumes_and_plays(core: str, tiny_shards: Path, tmp_path: Path) -> None:
    settings = [*CORES[core], *UNCOMPARED, "flops_budget=1e18", "data.val_frames=64"]
    ends = train_in_parts(tiny_shards, tmp_path, *settings)
    whole, parts = map(read_checkpoint, ends)
    assert parts["frames"] == 5 * STEP_FRAMES
    for part in COMPARED:
        assert_same(parts[part], whole[part], part)
    if core == "mamba":  # the widths that were solved are what the checkpoint and the record say
        width = parts["policy_config"]["core"]["width"]
        assert f"width: {width}\n" in (tmp_path / "whole" / "config.yaml").read_text()
        assert load_policy(ends[0]).num_params == pytest.approx(2e4, rel=0.05)
    played = tmp_path / "played"
    rollout(ckpt=str(ends[0]), episodes=2, max_episode_steps=20, workers=1, output=str(played))
    assert len(pd.read_parquet(played / "episodes.parquet")) == 2
