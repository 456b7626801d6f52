"""Inverse dynamics: what a run of it learns, counts and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from agent_scaling.data.batch import blank_batch
from agent_scaling.evaluation.accuracy import interval
from agent_scaling.playing.players import find_policy
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.cores.bidirectional_lstm import BidirectionalLSTMCore
from agent_scaling.policies.encoders.nethack import NetHackEncoder
from agent_scaling.policies.executed_flops import without_memory
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.modules.inverse import InverseDynamics
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.inverse_runs import BUDGET, HALF, INVERSE
from tests.helpers.policies import SMALL
from tests.helpers.runs import train


def test_accuracy_is_reported_beside_the_baselines_with_intervals(inverse_run: Path) -> None:
    last = json.loads((inverse_run / "milestones.json").read_text())[-1]
    for name in ("majority", "unigram"):
        over = last["val/top1"] - last[f"val/{name}_top1"]
        assert last[f"val/over_{name}"] == pytest.approx(over)
        assert last[f"val/over_{name}_se"] >= 0
    assert (
        read_checkpoint(inverse_run / "checkpoints" / "last.ckpt")["held_out"]["top1"]
        == last["val/top1"]
    )


def test_it_beats_answers_that_do_not_look(many_shards: Path, tmp_path: Path) -> None:
    """Few of AutoAscend's frames are enough for intervals, over the held-out games, above 0."""
    few = ["data.fraction=0.3", "data.val_lanes=16", "data.val_frames=1200"]
    ours = ["experiment=nethack_inverse_compact", "policy.params=2e4", "flops_budget=1.2e9"]
    train(many_shards, tmp_path / "run", *ours, *few)
    last = json.loads((tmp_path / "run" / "milestones.json").read_text())[-1]
    assert last["val/margin_games"] >= 7
    for name in ("majority", "unigram"):
        over = (last[f"val/over_{name}"], last[f"val/over_{name}_se"])
        assert interval(*over, last["val/margin_games"])[0] > 0


def test_a_resumed_run_ends_with_the_same_weights(
    inverse_run: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    train(tiny_shards, tmp_path / "run", *INVERSE, f"flops_budget={HALF}")
    half = [f"flops_budget={BUDGET}", "ckpt_path=last"]
    train(tiny_shards, tmp_path / "run", *INVERSE, *half)
    ours, theirs = (
        read_checkpoint(folder / "checkpoints" / "last.ckpt")
        for folder in (tmp_path / "run", inverse_run)
    )
    assert ours["frames"] == theirs["frames"]
    for name, weights in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weights), name
    for mine, other in zip(ours["lane_state"], theirs["lane_state"], strict=True):
        assert torch.equal(mine, other)


def small_model(core: Any = None, **encoder: Any) -> Policy:
    shape: dict[str, Any] = {**SMALL, "prev_action": False, **encoder}
    return Policy(NetHackEncoder(**shape), core or (lambda width: BidirectionalLSTMCore(width, 8)))


def module(policy: Policy, unroll_length: int = 6, lookahead: int = 2) -> InverseDynamics:
    return InverseDynamics(
        policy,
        OptimizerFactory(torch.optim.Adam, lr=0.1),
        unroll_length=unroll_length,
        lookahead=lookahead,
    )


@pytest.mark.parametrize("encoder", [{}, {"frames": 2, "moves": True}])
def test_flops_are_those_of_a_window_with_its_frames_ahead(encoder: dict[str, Any]) -> None:
    """A dispatcher that sees every operator of a window of 6 + 2 frames counts what 6 cost."""
    policy = small_model(**encoder)
    ghost, batch = without_memory(policy), blank_batch(8, 3, device="meta")
    batch.openings, batch.ahead = (), 2
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(batch, ghost.initial_state(3))
    assert module(policy).flops_per_frame == pytest.approx(3 * counter.get_total_flops() / (6 * 3))


def test_an_inverse_model_neither_plays_nor_clones(inverse_run: Path) -> None:
    with pytest.raises(InputError, match="cannot play"):
        find_policy(str(inverse_run / "checkpoints" / "last.ckpt"), None, None, {})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["module=bc"], "module=inverse alone"),
        (["policy/core=lstm"], "policy/core=bidirectional_lstm"),
        (["policy.encoder.prev_action=true"], "the answer; set policy.encoder.prev_action=false"),
        (["data.lookahead=0"], "data.lookahead=0"),
        (["callbacks.baselines=null"], "callbacks.baselines"),
    ],
)
def test_what_inverse_dynamics_cannot_be_trained_with(
    tiny_shards: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(tiny_shards, tmp_path / "run", *INVERSE, "flops_budget=1e8", *more)


@pytest.mark.parametrize("name", ["compact", "release2"])
def test_networks_that_see_the_answer(name: str) -> None:
    policy = make_policy(
        f"policy={name}", "policy.params=300_000", "policy/core=bidirectional_lstm"
    )
    with pytest.raises(InputError, match=r"the answer; set policy.*encoder\.actions=0"):
        module(policy)


def test_own_keys_have_no_weights(tiny_shards: Path, tmp_path: Path) -> None:
    asked = "module.weights=probability"
    with pytest.raises(InputError, match="without probabilities"):
        train(tiny_shards, tmp_path / "run", "flops_budget=1e8", asked)
