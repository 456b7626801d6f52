"""V-trace: value targets and advantages from another policy's experience (arXiv 1802.01561, §4.1).

Tensors are time-major: T steps, B lanes. Step t is one transition: in state x_t, whose value is
``values_TB[t]``, the behaviour policy μ chose a_t, received ``rewards_TB[t]`` and came to x_{t+1},
whose value is multiplied by ``discounts_TB[t]`` (γ, and 0 where the episode ended).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class VTrace(NamedTuple):
    """The result of :func:`vtrace`: constants, through which no gradient flows."""

    vs_TB: Tensor
    """Value targets v_s (equation 1)."""
    advantages_TB: Tensor
    """ρ_s (r_s + γ v_{s+1} − V(x_s)), which weights the policy gradient (§4.2)."""


def action_log_probs(logits_TBA: Tensor, action_TB: Tensor) -> Tensor:
    """The log-probability of each action taken, float32 [T, B]."""
    nats_N = F.cross_entropy(
        logits_TBA.flatten(0, 1).float(), action_TB.flatten(), reduction="none"
    )
    return -nats_N.view_as(action_TB)


@torch.no_grad()
def vtrace(
    log_rhos_TB: Tensor,
    discounts_TB: Tensor,
    rewards_TB: Tensor,
    values_TB: Tensor,
    bootstrap_B: Tensor,
    *,
    clip_rho: float | None = 1.0,
    clip_pg_rho: float | None = 1.0,
    clip_c: float = 1.0,
    lam: float = 1.0,
) -> VTrace:
    """Compute V-trace's value targets and advantages.

    Args:
        log_rhos_TB: log π(a_t | x_t) − log μ(a_t | x_t), for the learner's policy π.
        discounts_TB: γ, and 0 where a_t ended the episode.
        rewards_TB: The rewards of a_t.
        values_TB: The learner's V(x_t).
        bootstrap_B: The learner's V(x_T), of the frame after the last action.
        clip_rho: Threshold ρ̄ of the ratios in the temporal differences, which decides the policy
            whose value is the fixed point; None does not clip.
        clip_pg_rho: Threshold ρ̄ of the ratios in the advantages; None does not clip.
        clip_c: Threshold c̄ of the trace coefficients, which bounds how far corrections travel.
        lam: λ, which multiplies the trace coefficients (remark 2).
    """
    rhos_TB = log_rhos_TB.exp()
    clipped_TB = rhos_TB if clip_rho is None else rhos_TB.clamp(max=clip_rho)
    pg_rhos_TB = rhos_TB if clip_pg_rho is None else rhos_TB.clamp(max=clip_pg_rho)
    next_values_TB = torch.cat([values_TB[1:], bootstrap_B[None]])
    deltas_TB = clipped_TB * (rewards_TB + discounts_TB * next_values_TB - values_TB)
    decay_TB = discounts_TB * lam * rhos_TB.clamp(max=clip_c)
    # Remark 1: v_s − V(x_s) = δ_s + γ c_s (v_{s+1} − V(x_{s+1})).
    correction_B = torch.zeros_like(bootstrap_B)
    corrections: list[Tensor] = []
    for delta_B, decay_B in zip(reversed(deltas_TB), reversed(decay_TB), strict=True):
        correction_B = delta_B + decay_B * correction_B
        corrections.append(correction_B)
    vs_TB = values_TB + torch.stack(corrections[::-1])
    next_vs_TB = torch.cat([vs_TB[1:], bootstrap_B[None]])
    advantages_TB = pg_rhos_TB * (rewards_TB + discounts_TB * next_vs_TB - values_TB)
    return VTrace(vs_TB, advantages_TB)
