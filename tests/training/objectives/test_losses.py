"""Losses against distributions of torch's own, and their gradients' directions."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, kl_divergence

from agent_scaling.training.objectives.losses import (
    baseline_losses,
    entropies,
    kl_divergences,
    policy_gradient_losses,
)


def logits(seed: int, *, masked: bool = False) -> torch.Tensor:
    drawn = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(seed))
    if masked:
        drawn[..., 2] = -torch.inf
    return drawn


def test_as_torchs_distributions() -> None:
    ours, teacher = logits(0), logits(1)
    own, theirs = Categorical(logits=ours), Categorical(logits=teacher)
    torch.testing.assert_close(entropies(ours), own.entropy())
    torch.testing.assert_close(kl_divergences(ours, teacher), kl_divergence(theirs, own))
    assert (kl_divergences(ours, ours).abs() < 1e-6).all()


def test_impossible_actions_make_no_nans() -> None:
    ours = logits(0, masked=True).requires_grad_()
    possible = torch.cat([ours[..., :2], ours[..., 3:]], dim=-1)
    torch.testing.assert_close(entropies(ours), Categorical(logits=possible).entropy())
    entropies(ours).sum().backward()
    assert torch.isfinite(ours.grad).all()
    assert torch.isfinite(kl_divergences(logits(1), logits(0, masked=True))).all()


def test_policy_gradient_makes_good_actions_likelier() -> None:
    ours = logits(0).requires_grad_()
    action = torch.randint(0, 7, (4, 3), generator=torch.Generator().manual_seed(0))
    advantages = torch.tensor([1.0, -1.0, 0.0]).expand(4, 3).clone().requires_grad_()
    policy_gradient_losses(ours, action, advantages).sum().backward()
    assert advantages.grad is None
    towards = -ours.grad.gather(-1, action[..., None]).squeeze(-1)
    assert (towards[:, 0] > 0).all()
    assert (towards[:, 1] < 0).all()
    assert (ours.grad[:, 2] == 0).all()


def test_baseline_is_pulled_to_its_target() -> None:
    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    targets = torch.tensor([[3.0, 2.0]], requires_grad=True)
    losses = baseline_losses(values, targets)
    assert losses.tolist() == [[2.0, 0.0]]
    losses.sum().backward()
    assert values.grad.tolist() == [[-2.0, 0.0]]
    assert targets.grad is None
