"""Policies with other views of the game train from the command line's config, and play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from agent_scaling.envs.screens import NO_GLYPH
from agent_scaling.playing.play import play
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import small_policy
from tests.helpers.runs import UNCOMPARED, train, train_in_parts
from tests.training.test_resume import COMPARED, assert_same

QUIET = [*UNCOMPARED, "flops_budget=1e18", "data.val_frames=64"]


@pytest.mark.parametrize(
    "options",
    [["policy.encoder.frames=3"], ["policy.encoder.colors=false"]],
    ids=["frames", "mono"],
)
def test_policy_trains_resumes_and_plays(
    options: list[str], tiny_shards: Path, tmp_path: Path
) -> None:
    ends = train_in_parts(tiny_shards, tmp_path, *QUIET, *options)
    whole, parts = map(read_checkpoint, ends)
    for part in COMPARED:
        assert_same(parts[part], whole[part], part)
    policy = load_policy(ends[0])
    assert len(whole["lane_state"]) == len(policy.initial_state(1))
    played = tmp_path / "played"
    rollout(ckpt=str(ends[0]), episodes=2, max_episode_steps=20, workers=1, output=str(played))
    assert len(pd.read_parquet(played / "episodes.parquet")) == 2


class Watching(Policy):
    """Notes the inventories that it is shown."""

    seen: list[torch.Tensor] = []  # noqa: RUF012 (one list for all copies)

    def forward(self, batch: Any, state: Any) -> Any:
        self.seen.append(batch.inv_glyphs_TBI)
        return super().forward(batch, state)


def test_inventory_reaches_the_policy_in_the_real_game() -> None:
    policy = small_policy(inventory=True, frames=2)
    policy.__class__ = Watching
    Watching.seen.clear()
    table = play(policy, range(3), max_episode_steps=30, workers=1, block=4)
    assert (table["steps"] == 30).all()
    carried = torch.cat(Watching.seen) != NO_GLYPH
    assert carried.shape[1:] == (4, 55)
    assert (carried.sum(-1) > 2).all()  # every hero begins with something
    again = play(policy, range(3), max_episode_steps=30, workers=1, lanes=1, block=4)
    pd.testing.assert_frame_equal(again, table)


def test_recordings_have_no_inventory_and_training_says_so(
    tiny_shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"inv_glyphs.*policy\.encoder\.inventory=false"):
        train(tiny_shards, tmp_path / "run", *QUIET, "policy.encoder.inventory=true")
    assert not list((tmp_path / "run").glob("checkpoints/*"))
