"""Every core trains from the command line's config, goes on bit-exactly, and plays."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from agent_scaling.checkpoint import read_checkpoint
from agent_scaling.rollout import rollout
from tests.runs import train
from tests.test_resume import COMPARED, assert_same

CORES = {
    "lstm": ["policy/core=lstm"],
    "transformer": ["policy/core=transformer", "policy.core.layers=2", "policy.core.context=24"],
    "mamba": ["policy/core=mamba", "policy.core.layers=2", "policy.core.state_size=8"],
}


@pytest.mark.parametrize("core", CORES)
def test_core_trains_resumes_and_plays(core: str, tiny_shards: Path, tmp_path: Path) -> None:
    settings = [*CORES[core], "flops_budget=1e18", "callbacks.reference_players=null"]
    settings.append("callbacks.baselines=null")
    ends = []
    for name, stops in (("whole", (12,)), ("parts", (5, 12))):
        for stop in stops:
            more = [f"trainer.max_steps={stop}", "ckpt_path=last"]
            train(tiny_shards, tmp_path / name, *settings, *more)
        ends.append(tmp_path / name / "checkpoints" / "last.ckpt")
    whole, parts = map(read_checkpoint, ends)
    assert parts["frames"] == 12 * 4 * 16
    for part in COMPARED:
        assert_same(parts[part], whole[part], part)
    played = tmp_path / "played"
    rollout(ckpt=str(ends[0]), episodes=2, max_episode_steps=40, workers=1, output=str(played))
    assert len(pd.read_parquet(played / "episodes.parquet")) == 2
