"""IMPALA's objective (arXiv 1802.01561, §4.2): an unroll and the learner's answer → losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.objectives.losses import (
    baseline_losses,
    entropies,
    policy_gradient_losses,
)
from agent_scaling.training.objectives.vtrace import action_log_probs, vtrace


class PlayLosses(NamedTuple):
    """Per step, [T, B], before any weight."""

    policy: Tensor
    baseline: Tensor
    entropy: Tensor
    """Nats; its weight in the loss is negative."""
    log_rho: Tensor
    """log π − log μ of the actions taken: how far actors lag behind."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Policy gradient + baseline_cost · baseline − entropy_cost · entropy.

    The defaults are those of NLE's published agent (arXiv 2006.13760).

    Raises:
        InputError: A value is out of its range.
    """

    discount: float = 0.99
    """γ."""
    baseline_cost: float = 0.5
    """Weight of ½ (v − V)²."""
    entropy_cost: float = 6.0e-4
    """Weight of the entropy in nats."""
    clip_rho: float | None = 1.0
    """ρ̄; None does not clip."""
    clip_pg_rho: float | None = 1.0
    """ρ̄ of the policy's gradient; None does not clip."""
    clip_c: float = 1.0
    """c̄."""
    lam: float = 1.0
    """λ."""
    reduction: str = "sum"
    """``sum`` over the unroll's steps and lanes, as in the paper, or their ``mean``."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1 or not 0 <= self.lam <= 1:
            raise InputError(
                f"module.objective: discount={self.discount} and lam={self.lam} must be 0 to 1"
            )
        if self.reduction not in ("sum", "mean"):
            raise InputError(f"module.objective.reduction={self.reduction!r}: must be sum or mean")

    def losses(
        self, unroll: Batch, reward_TB: Tensor, logits_TBA: Tensor, values_TB: Tensor
    ) -> PlayLosses:
        """Losses of an unroll of T actions.

        A step without an action (of a game that was cut off, or lost with its worker) has none:
        its target is its own value, which is what the step before it bootstraps from.

        Args:
            unroll: What actors played, T+1 frames.
            reward_TB: [T, B]: the learner's rewards of its actions.
            logits_TBA: [T+1, B, A]: the learner's answer.
            values_TB: [T+1, B]: its baseline.
        """
        assert unroll.behaviour_logits_TBA is not None
        action_TB, logits_TBA = unroll.action_TB[:-1], logits_TBA[:-1]
        values_TB = values_TB.float()
        acted_TB = action_TB != NO_ACTION
        behaviour_TB = action_log_probs(unroll.behaviour_logits_TBA[:-1], action_TB)
        log_rhos_TB = action_log_probs(logits_TBA.detach(), action_TB) - behaviour_TB
        targets = vtrace(
            log_rhos_TB,
            self.discount * (~unroll.first_TB[1:] & acted_TB).float(),
            torch.where(acted_TB, reward_TB, values_TB[:-1].detach()),
            values_TB[:-1].detach(),
            values_TB[-1].detach(),
            clip_rho=self.clip_rho,
            clip_pg_rho=self.clip_pg_rho,
            clip_c=self.clip_c,
            lam=self.lam,
        )
        return PlayLosses(
            policy_gradient_losses(logits_TBA, action_TB, targets.advantages_TB),
            baseline_losses(values_TB[:-1], targets.vs_TB),
            entropies(logits_TBA) * acted_TB,
            log_rhos_TB,
        )

    def reduce(self, losses_TB: Tensor) -> Tensor:
        """To one number."""
        return losses_TB.sum() if self.reduction == "sum" else losses_TB.mean()

    def total(self, losses: PlayLosses, critic_only: bool) -> Tensor:
        """The weighted sum; while only the critic learns, the policy's part weighs nothing."""
        policy, baseline, entropy = (self.reduce(part) for part in losses[:3])
        weight = 0.0 if critic_only else 1.0
        return weight * (policy - self.entropy_cost * entropy) + self.baseline_cost * baseline
