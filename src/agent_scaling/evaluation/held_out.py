"""Held-out evaluation: a policy over a fixed pass of windows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.evaluation.accuracy import AccuracyMargins
from agent_scaling.evaluation.next_action import NextActionMetrics
from agent_scaling.policies.policy import Policy, State


class Evaluation:
    """One pass under way: windows come in order, and the policy's state is carried along.

    Args:
        policy: The policy, in evaluation mode.
        games: Games that ``Batch.game_TB`` counts.
        device: Where the policy is.
        unigram_A: Nats of each action, to compare accuracies with.
    """

    def __init__(
        self,
        policy: Policy,
        games: int,
        device: torch.device | str = "cpu",
        unigram_A: Tensor | None = None,
    ) -> None:
        self.policy, self.device = policy, device
        self.metrics = NextActionMetrics(games).to(device)
        self.margins = None
        if unigram_A is not None:
            self.margins = AccuracyMargins(games, unigram_A).to(device)
        self._state: State | None = None

    @torch.no_grad()
    def add(self, window: Batch) -> None:
        """Predict the window's actions and add up what that scored."""
        batch = window.to(self.device)
        if self._state is None:
            self._state = self.policy.initial_state(batch.lanes)
        logits_TBA, _, self._state = self.policy(batch, self._state)
        self.metrics.update(logits_TBA, batch.action_TB, batch.game_TB)
        if self.margins is not None:
            assert batch.game_TB is not None
            self.margins.update(logits_TBA, batch.action_TB, batch.game_TB)

    def compute(self) -> dict[str, float]:
        """As :func:`evaluate` returns it."""
        found: dict[str, float] = self.metrics.compute()
        return found if self.margins is None else found | self.margins.compute()


def evaluate(
    policy: Policy,
    windows: Iterable[Batch],
    games: int,
    device: torch.device | str = "cpu",
    unigram_A: Tensor | None = None,
) -> dict[str, float]:
    """Metrics of ``policy`` over ``windows``.

    The policy is in evaluation mode meanwhile, and afterwards as it was. Under an initialised
    process group, ranks that evaluate their own lanes get the sums over all of them.

    Args:
        policy: The policy, on ``device``.
        windows: One pass, e.g. ``ShardsDataModule.val_dataloader()``.
        games: Games that ``Batch.game_TB`` counts.
        device: Where the windows go.
        unigram_A: Nats of each action in the training games, to compare accuracies with.

    Returns:
        ``nats``, ``nats_se`` (clustered by game), ``perplexity``, ``top1``, ``top3``, ``top5`` and
        ``frames``, the number of frames with an action; with ``unigram_A`` also what
        :class:`~agent_scaling.evaluation.accuracy.AccuracyMargins` computes.
    """
    was_training = policy.training
    policy.eval()
    try:
        evaluation = Evaluation(policy, games, device, unigram_A)
        for window in windows:
            evaluation.add(window)
    finally:
        policy.train(was_training)
    return evaluation.compute()
