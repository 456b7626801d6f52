"""Losses per step [T, B], which the caller weighs and sums; and the summed nats of cloning."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.training.objectives.vtrace import action_log_probs


def policy_gradient_losses(logits_TBA: Tensor, action_TB: Tensor, advantages_TB: Tensor) -> Tensor:
    """−log π(a_t | x_t) · advantage (arXiv 1802.01561, §4.2); advantages are constants."""
    return -action_log_probs(logits_TBA, action_TB) * advantages_TB.detach()


def baseline_losses(values_TB: Tensor, targets_TB: Tensor) -> Tensor:
    """½ (v_t − V(x_t))²; targets are constants."""
    return 0.5 * (targets_TB.detach() - values_TB.float()).square()


def entropies(logits_TBA: Tensor) -> Tensor:
    """The entropy of each step's distribution, in nats; an action whose logit is −∞ adds 0."""
    log_probs_TBA = F.log_softmax(logits_TBA.float(), dim=-1)
    return -(log_probs_TBA.exp() * finite(log_probs_TBA)).sum(-1)


def kl_divergences(logits_TBA: Tensor, teacher_TBA: Tensor) -> Tensor:
    """KL(teacher ‖ policy) in nats, for kickstarting (arXiv 1803.03835, §3.1).

    No gradient flows to the teacher. The paper's loss is the cross-entropy with the teacher, which
    differs by the teacher's entropy, a constant.
    """
    teacher_log_TBA = F.log_softmax(teacher_TBA.detach().float(), dim=-1)
    log_probs_TBA = F.log_softmax(logits_TBA.float(), dim=-1)
    apart_TBA = finite(teacher_log_TBA) - log_probs_TBA
    return (teacher_log_TBA.exp() * apart_TBA).sum(-1)


def finite(log_probs_TBA: Tensor) -> Tensor:
    """Replace −∞ by the smallest float, so that its product with a probability of 0 is not NaN."""
    return log_probs_TBA.clamp(min=-3.0e38)


def summed_nats(
    logits_TBA: Tensor, action_TB: Tensor, weight_TB: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum w · nats and w over a window's decisions; without weights, w = 1."""
    logits_NA, action_N = logits_TBA.flatten(0, 1).float(), action_TB.flatten()
    if weight_TB is None:
        nats = F.cross_entropy(logits_NA, action_N, ignore_index=NO_ACTION, reduction="sum")
        return nats, (action_N != NO_ACTION).sum()
    nats_N = F.cross_entropy(logits_NA, action_N, ignore_index=NO_ACTION, reduction="none")
    weight_N = weight_TB.flatten() * (action_N != NO_ACTION)
    return (weight_N * nats_N).sum(), weight_N.sum()
