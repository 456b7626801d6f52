"""Held-out evaluation of a policy over a fixed pass of windows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.evaluation.accuracy import AccuracyMargins
from agent_scaling.evaluation.next_action import NextActionMetrics
from agent_scaling.policies.inference import uncompiled
from agent_scaling.policies.policy import Policy, State


class Evaluation:
    """One pass over windows in order, which carries the policy's state from window to window.

    Args:
        policy: The policy, in evaluation mode.
        games: Number of games that ``Batch.game_TB`` indexes.
        device: Device of the policy.
        unigram_A: Log-probability of each action, in nats, for the accuracies' baselines.
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
        """Predict the window's actions and add the results to the metrics."""
        batch = window.to(self.device)
        if self._state is None:
            self._state = self.policy.initial_state(batch.lanes)
        logits_TBA, _, self._state = self.policy(batch, self._state)
        self.metrics.update(logits_TBA, batch.action_TB, batch.game_TB)
        if self.margins is not None:
            assert batch.game_TB is not None
            self.margins.update(logits_TBA, batch.action_TB, batch.game_TB)

    def compute(self) -> dict[str, float]:
        """Return the metrics so far, as :func:`evaluate` does."""
        found: dict[str, float] = self.metrics.compute()
        return found if self.margins is None else found | self.margins.compute()


def evaluate(
    policy: Policy,
    windows: Iterable[Batch],
    games: int,
    device: torch.device | str = "cpu",
    unigram_A: Tensor | None = None,
) -> dict[str, float]:
    """Compute the metrics of ``policy`` over ``windows``.

    The policy is in evaluation mode during the pass; its mode is restored afterwards. Under an
    initialised process group, each rank evaluates its own lanes and gets the sums over all ranks.

    Args:
        policy: The policy, on ``device``.
        windows: One pass, e.g. ``ShardsDataModule.val_dataloader()``.
        games: Number of games that ``Batch.game_TB`` indexes.
        device: Device to which the windows are moved.
        unigram_A: Log-probability of each action in the training games, in nats, for the
            accuracies' baselines.

    Returns:
        ``nats``, ``nats_se`` (clustered by game), ``perplexity``, ``top1``, ``top3``, ``top5`` and
        ``frames``, the number of frames with an action. With ``unigram_A``, also the results of
        :class:`~agent_scaling.evaluation.accuracy.AccuracyMargins`.
    """
    was_training = policy.training
    policy.eval()
    try:
        evaluation = Evaluation(policy, games, device, unigram_A)
        with uncompiled(policy):
            for window in windows:
                evaluation.add(window)
    finally:
        policy.train(was_training)
    return evaluation.compute()
