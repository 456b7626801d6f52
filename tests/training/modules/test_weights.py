"""Cloning by weight: Σ w·nats / Σ w, over all ranks, and as before where there are no weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.modules import bc
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import cut, random_batch, small_policy


def labelled(seed: int = 0) -> Batch:
    batch = random_batch(5, 4, seed)
    batch.probability_TB = torch.rand(5, 4, generator=torch.Generator().manual_seed(seed))
    batch.action_TB[2, 1] = NO_ACTION
    batch.probability_TB[2, 1] = 0
    return batch


def module(monkeypatch: pytest.MonkeyPatch, **how: Any) -> BehaviouralCloning:
    made = BehaviouralCloning(
        small_policy(crop_norm=False).eval(), OptimizerFactory(torch.optim.SGD, lr=0.1), **how
    )
    monkeypatch.setattr(type(made), "trainer", SimpleNamespace(world_size=1))
    return made


def by_the_formula(batch: Batch, at_least: float = 0.0, weighed: bool = True) -> torch.Tensor:
    policy = small_policy(crop_norm=False).eval()
    logits, _, _ = policy(batch, policy.initial_state(4))
    total, weights = torch.zeros(()), torch.zeros(())
    assert batch.probability_TB is not None
    for t in range(5):
        for lane in range(4):
            action, p = batch.action_TB[t, lane], batch.probability_TB[t, lane]
            if action != NO_ACTION and p >= at_least:
                w = p if weighed else torch.ones(())
                total = total - w * F.log_softmax(logits[t, lane], dim=0)[action]
                weights = weights + w
    return total / weights


@pytest.mark.parametrize("at_least", [0.0, 0.4])
@pytest.mark.parametrize("weighed", [True, False])
def test_loss_is_the_formula_s(
    monkeypatch: pytest.MonkeyPatch, at_least: float, weighed: bool
) -> None:
    made = module(monkeypatch, weights="probability" if weighed else None, min_probability=at_least)
    loss = made.training_step(labelled(), 0)
    assert_close(loss, by_the_formula(labelled(), at_least, weighed))
    assert made._waiting == 20  # frames count as they did


def test_without_weights_the_loss_is_bit_for_bit_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch, policy = labelled(), small_policy(crop_norm=False).eval()
    logits, _, _ = policy(batch, policy.initial_state(4))
    before = F.cross_entropy(
        logits.flatten(0, 1).float(), batch.action_TB.flatten(), ignore_index=NO_ACTION,
        reduction="sum",
    ) / ((batch.action_TB != NO_ACTION).sum().clamp(min=1) / 1)  # fmt: skip
    assert torch.equal(module(monkeypatch).training_step(batch, 0), before)


def test_the_mean_of_two_ranks_is_the_loss_of_all_their_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, steps = labelled(), slice(None)
    halves = [cut(whole, steps, slice(0, 2)), cut(whole, steps, slice(2, 4))]
    total = sum(half.probability_TB.sum() for half in halves)
    losses = []
    for half in halves:
        made = module(monkeypatch, weights="probability")
        monkeypatch.setattr(bc, "summed", lambda _: torch.as_tensor(total))
        monkeypatch.setattr(bc, "count_ranks", lambda: 2)
        losses.append(made.training_step(half, 0))
    assert_close(torch.stack(losses).mean(), by_the_formula(whole))


def test_a_window_that_weighs_nothing_has_no_loss_and_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch, made = labelled(), module(monkeypatch, weights="probability", min_probability=1.0)
    loss = made.training_step(batch, 0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert all(not p.grad.any() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("how", [{"weights": "entropy"}, {"min_probability": 1.5}])
def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"module\."):
        module(monkeypatch, **how)
