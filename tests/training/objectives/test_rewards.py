"""Rewards: their running spread is that of all of them, in whatever pieces they came."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_scaling.runtime.errors import InputError
from agent_scaling.training.objectives.rewards import SMALLEST_STD, Rewards


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pieces=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    offset=st.sampled_from([0.0, 5.0, -1000.0]),
)
def test_running_moments(seed: int, pieces: list[int], offset: float) -> None:
    drawn = np.random.default_rng(seed).normal(offset, 3, (sum(pieces), 4)).astype(np.float32)
    rewards = Rewards(normalise=True, clip=None)
    for part in np.split(drawn, np.cumsum(pieces)[:-1]):
        given = torch.from_numpy(part)
        found = rewards(given)
    exact = drawn.astype(np.float64)
    assert float(rewards.count) == drawn.size
    assert float(rewards.mean) == pytest.approx(exact.mean())
    assert float(rewards.std) == pytest.approx(exact.std(), rel=1e-4)
    torch.testing.assert_close(found, given / float(rewards.std), rtol=1e-4, atol=1e-4)


def test_scale_then_clip() -> None:
    rewards = Rewards(scale=0.5, clip=1.0)
    assert rewards(torch.tensor([[-8.0, 1.0, 3]])).tolist() == [[-1.0, 0.5, 1.0]]
    assert float(rewards.count) == 0


def test_rewards_that_do_not_vary_yet() -> None:
    found = Rewards(normalise=True, clip=10.0)(torch.full((3, 2), 0.05))
    assert found.max() == pytest.approx(0.05 / SMALLEST_STD)


def test_statistics_travel_in_checkpoints() -> None:
    rewards, other = Rewards(normalise=True, clip=None), Rewards(normalise=True, clip=None)
    rewards(torch.randn(5, 2))
    other.load_state_dict(rewards.state_dict())
    assert torch.equal(other.std, rewards.std)


@pytest.mark.parametrize("clip", [0.0, -1.0])
def test_a_clip_that_leaves_nothing(clip: float) -> None:
    with pytest.raises(InputError, match="clip"):
        Rewards(clip=clip)
