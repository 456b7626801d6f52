"""The core that looks both ways: what it sees, and what it must not see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agent_scaling.batch import Batch
from agent_scaling.cores.bidirectional_lstm import BidirectionalLSTMCore
from agent_scaling.costs import LayerCost
from agent_scaling.encoders.nethack import NetHackEncoder
from agent_scaling.policy import Policy
from tests.policies import SMALL, cut, random_batch

STEPS, LANES = 9, 3


def core(layers: int = 2) -> BidirectionalLSTMCore:
    torch.manual_seed(1)
    return BidirectionalLSTMCore(6, 5, layers).double()


def window(openings: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, Batch]:
    features = torch.randn(STEPS, LANES, 6, generator=torch.Generator().manual_seed(seed))
    return features.double(), random_batch(STEPS, LANES, seed, openings)


def reached(batch: Batch, step: int) -> list[int]:
    """Steps of lane 1 that the answer at ``step`` of lane 1 depends on; no other lane may."""
    features, _ = window()
    features.requires_grad_(True)
    out, _ = core()(features, batch, core().initial_state(LANES))
    (gradient,) = torch.autograd.grad(out[step, 1].square().sum(), features)
    seen = gradient.abs().sum(-1) > 0
    assert not seen[:, [0, 2]].any()
    return list(seen[:, 1].nonzero().flatten().tolist())


def test_an_answer_depends_on_all_frames_of_its_game_before_and_after() -> None:
    _, batch = window()
    assert reached(batch, 4) == list(range(STEPS))
    batch.first_TB[[3, 6], 1] = True
    batch.first_TB[5, 0] = True  # another lane's game
    assert reached(batch, 4) == [3, 4, 5]
    assert reached(batch, 2) == [0, 1, 2]
    assert reached(replace(batch, openings=(3, 5, 6)), 6) == [6, 7, 8]


def test_each_direction_equals_the_formula() -> None:
    """The slow version: a cell at a time, anew in each game; to the right of t is t + 1."""
    made, (features, batch) = core(1), window(0.3, seed=2)
    out, _ = made(features, batch, made.initial_state(LANES))
    for lane in range(LANES):
        state = None
        for t in range(STEPS):
            state = None if batch.first_TB[t, lane] else state
            seen, state = made.past.lstm(features[t : t + 1, lane : lane + 1], state)
            assert_close(out[t, lane, :5], seen[0, 0])
        state, seen = None, torch.zeros(1, 1, 5).double()
        for t in reversed(range(STEPS)):
            if t + 1 < STEPS and batch.first_TB[t + 1, lane]:
                state, seen = None, torch.zeros(1, 1, 5).double()
            assert_close(out[t, lane, 5:], seen[0, 0])
            seen, state = made.future.lstm(features[t : t + 1, lane : lane + 1], state)


@pytest.mark.parametrize("openings", [0.0, 0.3])
def test_windows_that_overlap_carry_the_past_as_if_they_did_not(openings: float) -> None:
    made, (features, batch) = core(), window(openings, seed=3)
    start = made.initial_state(LANES)
    whole, _ = made(features, batch, start)
    ahead = replace(cut(batch, slice(0, 6)), ahead=2)
    left, state = made(features[:6], ahead, start)
    right, _ = made(features[4:], cut(batch, slice(4, None)), state)
    assert_close(right, whole[4:])
    assert_close(left[..., :5], whole[:6, :, :5])  # the past's half
    _, alone = made(features[:4], cut(batch, slice(0, 4)), start)
    for ours, theirs in zip(state, alone, strict=True):
        assert_close(ours, theirs)


def policy(**encoder: object) -> Policy:
    torch.manual_seed(0)
    shape: dict[str, object] = {**SMALL, "prev_action": False, **encoder}
    return Policy(NetHackEncoder(**shape), lambda width: BidirectionalLSTMCore(width, 8)).eval()


@pytest.mark.parametrize("encoder", [{"frames": 3}, {"moves": True}, {"frames": 2, "moves": True}])
def test_what_an_encoder_remembers_is_of_before_the_frames_ahead(
    encoder: dict[str, object],
) -> None:
    made, batch = policy(**encoder), random_batch(8, 2, seed=4, openings=0.1)
    start = made.initial_state(2)
    whole, _, _ = made(batch, start)
    _, _, state = made(replace(cut(batch, slice(0, 6)), ahead=3), start)
    rest, _, _ = made(cut(batch, slice(3, None)), state)
    assert_close(rest, whole[3:])


def test_both_directions_are_counted() -> None:
    assert [(cost.name, cost.flops) for cost in core(1).costs()] == [
        ("core.past.lstm.0", 2 * 4 * 5 * (6 + 5)),
        ("core.future.lstm.0", 2 * 4 * 5 * (6 + 5)),
    ]
    assert all(isinstance(cost, LayerCost) for cost in policy().costs())


def test_it_says_that_it_cannot_play() -> None:
    assert not policy().causal
