"""Unrolls as actors would hand them over, without a game: for tests of the learner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch, Played
from agent_scaling.policies.inference import for_inference
from agent_scaling.policies.policy import Policy
from tests.helpers.policies import random_batch

Reward = Callable[[Tensor], Tensor]


def random_unroll(
    policy: Policy, steps: int, lanes: int, seed: int = 0, ends: float = 0.1
) -> Batch:
    """T = ``steps`` actions drawn by ``policy``; rewards are normal numbers."""
    unroll = random_batch(steps + 1, lanes, seed, openings=ends)
    unroll.game_TB = None
    state = policy.initial_state(lanes)
    unroll.played = Played(state=state, updates=0, episodes=[])
    with torch.no_grad():
        actors = for_inference(policy, torch.device("cpu"))
        logits_TBA, _, _ = actors(unroll, state)
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(logits_TBA.shape, generator=generator)
    unroll.action_TB = (logits_TBA - (-uniform.log()).log()).argmax(-1)  # Gumbel's way to draw
    unroll.action_TB[-1] = -100
    unroll.reward_TB = torch.randn(steps + 1, lanes, generator=generator)
    unroll.reward_TB[-1] = 0
    unroll.behaviour_logits_TBA = logits_TBA.clone()
    unroll.behaviour_logits_TBA[-1] = 0
    return unroll


class Given:
    """These batches, as a loader."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Bandit:
    """Endless unrolls of the policy as it is now; every frame is random, an action is paid."""

    def __init__(self, policy: Policy, steps: int, lanes: int, reward: Reward) -> None:
        self.policy, self.steps, self.lanes, self.reward = policy, steps, lanes, reward

    def __len__(self) -> int:
        """Known, so that Lightning does not fetch the next one early."""
        return 10**9

    def __iter__(self) -> Iterator[Batch]:
        seed = 0
        while True:
            unroll = random_unroll(self.policy, self.steps, self.lanes, seed)
            assert unroll.reward_TB is not None
            unroll.reward_TB[:-1] = self.reward(unroll.action_TB[:-1])
            yield unroll
            seed += 1
