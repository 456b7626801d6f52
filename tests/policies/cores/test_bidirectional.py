"""The core that looks both ways: what it sees, and what it must not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling.data.batch import Batch, blank_batch
from agent_scaling.policies.cores.bidirectional_lstm import BidirectionalLSTMCore
from agent_scaling.policies.cores.lstm import LSTMCore
from agent_scaling.policies.costs import LayerCost
from agent_scaling.policies.encoders.nethack import NetHackEncoder
from agent_scaling.policies.policy import Policy
from tests.helpers.policies import SMALL, cut, random_batch

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
    """The slow version: a cell at a time, from the left and from the right, anew in each game."""
    made, (features, batch) = core(1), window(0.3, seed=2)
    out, _ = made(features, batch, made.initial_state(LANES))
    for lane in range(LANES):
        for part, order in ((made.past, range(STEPS)), (made.future, reversed(range(STEPS)))):
            at = slice(0, 5) if part is made.past else slice(5, 10)
            state = None
            for t in order:
                opened = t if part is made.past else t + 1
                if opened < STEPS and batch.first_TB[opened, lane]:
                    state = None
                seen, state = part.lstm(features[t : t + 1, lane : lane + 1], state)
                assert_close(out[t, lane, at], seen[0, 0])


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


@pytest.mark.parametrize(
    ("kind", "low", "high"), [(BidirectionalLSTMCore, 0.95, 1.0), (LSTMCore, 0.0, 0.25)]
)
def test_what_was_done_shows_in_the_frame_after_it(kind: Any, low: float, high: float) -> None:
    """Of eight actions, drawn at random, each shows in the next frame: who looks ahead learns them,
    and beats the frequencies of actions; who does not, cannot."""
    torch.manual_seed(0)
    made, batch = kind(8, 16), blank_batch(12, 32)
    head = nn.Linear(made.width, 8)
    optimizer = torch.optim.Adam([*made.parameters(), *head.parameters()], 0.03)
    for _ in range(60):
        action_TB = torch.randint(0, 8, (12, 32))
        seen_TBD = F.pad(F.one_hot(action_TB[:-1], 8).float(), (0, 0, 0, 0, 1, 0))
        out, _ = made(seen_TBD, batch, made.initial_state(32))
        logits = head(out)[:-1]
        loss = F.cross_entropy(logits.flatten(0, 1), action_TB[:-1].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (logits.argmax(-1) == action_TB[:-1]).float().mean()
    assert low < right <= high
