"""The learner: what a step computes, what it costs, and that it learns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.flops import BUDGETS, flops_per_frame
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.modules.impala import Impala
from agent_scaling.training.objectives.impala import Objective
from agent_scaling.training.objectives.teacher import Ramp, Teacher
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import cut, random_batch, small_policy
from tests.helpers.servers import free_port
from tests.helpers.unrolls import Bandit, Given, random_unroll

STEPS, LANES = 5, 3
FRAMES = STEPS * LANES
QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
ALWAYS = Ramp([0], [1.0])


def fit(
    batches: list[Any] | Bandit, updates: int, policy: Policy, *callbacks: Callback, **options: Any
) -> Impala:
    """Train for so many updates; returns the module."""
    optimizer = OptimizerFactory(torch.optim.Adam, options.pop("lr", 1e-2))
    module = Impala(policy, optimizer, **options)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=updates,
        callbacks=list(callbacks),
        gradient_clip_val=40.0,
        **QUIET,
    )
    trainer.fit(module, Given(batches) if isinstance(batches, list) else batches)
    return module


@pytest.fixture
def policy() -> Policy:
    return small_policy()


def pays(action: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda action_TB: (action_TB == action).float()


def test_it_learns_what_pays(policy: Policy) -> None:
    policy.policy = nn.Linear(policy.core.width, 6)
    policy.num_actions = 6
    before = random_unroll(policy, 10, 10, seed=10**6).action_TB[:-1]
    objective = Objective(discount=0.0, reduction="mean")
    fit(Bandit(policy, 4, 6, pays(4)), 16, policy, lr=1e-2, objective=objective)
    after = random_unroll(policy, 10, 10, seed=10**6).action_TB[:-1]
    assert (before == 4).float().mean() < 0.3
    assert (after == 4).float().mean() > 0.8


def test_actors_and_learner_are_one_function(policy: Policy) -> None:
    """BatchNorm is folded in actors and frozen in the learner: on-policy, every ratio is 1."""
    for module in policy.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    kept = copy.deepcopy(dict(policy.named_buffers()))
    found = fit([random_unroll(policy, STEPS, LANES)], 1, policy, lr=0.0)
    assert found.train_metrics.compute()["rho"] == pytest.approx(1, abs=1e-4)
    assert all(torch.equal(kept[name], value) for name, value in policy.named_buffers())


def test_what_is_counted(policy: Policy) -> None:
    teacher = Teacher(small_policy(seed=1), Ramp([0, 2 * FRAMES, 2 * FRAMES + 1], [1.0, 1.0, 0.0]))
    pairs = [
        {
            "unroll": random_unroll(policy, STEPS, LANES, seed),
            "demonstrations": random_batch(4, 2, seed),
        }
        for seed in range(4)
    ]
    module = fit(pairs, 4, policy, teacher=teacher, cloning=ALWAYS)
    assert module.frames == 4 * FRAMES
    assert module.step_frames == FRAMES
    for convention in BUDGETS:
        forward = flops_per_frame(policy, convention, training=False)
        learning = 4 * (STEPS + 1) * LANES
        cloning = 4 * 4 * 2
        expected = forward * 4 * FRAMES
        expected += flops_per_frame(policy, convention) * (learning + cloning)
        # The teacher has stopped after three unrolls: at 3 · FRAMES frames its weight is 0.
        expected += 3 * FRAMES * flops_per_frame(teacher.policy, convention, training=False)
        assert module.spent[convention] == expected
    assert sum(module.parts.values()) == module.flops
    assert set(module.parts) == {"acting", "learning", "teaching", "cloning"}


def test_only_the_critic_learns_at_first(policy: Policy) -> None:
    unrolls = [random_unroll(policy, STEPS, LANES, seed) for seed in range(3)]
    kept = copy.deepcopy(policy.state_dict())
    fit(unrolls, 2, policy, critic_frames=2 * FRAMES, teacher=Teacher(small_policy(1), ALWAYS))
    changed = {name for name, value in policy.state_dict().items() if not value.equal(kept[name])}
    assert changed == {"baseline.weight", "baseline.bias"}
    fit(unrolls, 3, policy.train(), critic_frames=2 * FRAMES)
    changed = {name for name, value in policy.state_dict().items() if not value.equal(kept[name])}
    assert {"policy.weight", "encoder.chars.weight"} <= changed


def test_teacher_follows_the_lanes(policy: Policy) -> None:
    """Two unrolls, the second of which begins with the first one's last frame, are one window."""
    whole = random_batch(2 * STEPS + 1, LANES, openings=0.2)
    teacher = Teacher(policy, ALWAYS)
    found = [teacher.logits(cut(whole, slice(begin, begin + STEPS + 1))) for begin in (0, STEPS)]
    with torch.no_grad():
        expected, _, _ = policy.eval()(whole, policy.initial_state(LANES))
    torch.testing.assert_close(torch.cat(found), expected[:-1], rtol=1e-4, atol=1e-4)


def test_kickstarting_pulls_towards_the_teacher(policy: Policy) -> None:
    teacher = small_policy(seed=1)
    unrolls = [without_rewards(random_unroll(policy, STEPS, LANES, seed)) for seed in range(30)]
    metrics = Every()
    objective = Objective(entropy_cost=0, baseline_cost=0, reduction="mean")
    fit(
        unrolls, 30, policy, metrics, lr=3e-3,
        objective=objective, teacher=Teacher(teacher, Ramp([0], [10.0])),
    )  # fmt: skip
    divergences = [point["teacher_kl"] for point in metrics.points]
    assert divergences[-1] < 0.5 * divergences[0]


def test_demonstrations_are_cloned_with_their_own_state(policy: Policy) -> None:
    window = random_batch(4, 2)
    pairs = [{"unroll": random_unroll(policy, STEPS, LANES), "demonstrations": window}] * 20
    metrics = Every()
    module = fit(pairs, 20, policy, metrics, lr=3e-3, cloning=Ramp([0], [100.0]))
    nats = [point["cloning_nats"] for point in metrics.points]
    assert nats[-1] < nats[0] - 0.5
    assert module.demo_state is not None
    assert module.demo_state[0].shape[1] == 2


def test_a_teacher_of_another_game_is_refused(policy: Policy) -> None:
    other = small_policy()
    other.num_actions = 8
    with pytest.raises(InputError, match="8 actions"):
        Impala(policy, OptimizerFactory(torch.optim.Adam, 1e-3), teacher=Teacher(other, ALWAYS))


@pytest.mark.parametrize("wrong", [{"discount": 1.5}, {"lam": -0.1}, {"reduction": "max"}], ids=str)
def test_objectives_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Objective(**wrong)


def test_ramp() -> None:
    ramp = Ramp([10, 20], [1.0, 0.0])
    assert [ramp(frames) for frames in (0, 10, 15, 20, 99)] == [1, 1, 0.5, 0, 0]
    for frames, weights in (([], []), ([0, 0], [1, 1]), ([0, 1], [1])):
        with pytest.raises(InputError, match="ascending"):
            Ramp(frames, weights)


def test_a_policy_that_is_shared_out_is_refused(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    trainer = Trainer(accelerator="cpu", devices=1, strategy=strategy, max_steps=1, **QUIET)
    try:
        with pytest.raises(InputError, match="trainer=ddp"):
            trainer.fit(Impala(policy, OptimizerFactory(torch.optim.Adam, 1e-3)), Given([]))
    finally:
        torch.distributed.destroy_process_group()


def without_rewards(unroll: Batch) -> Batch:
    assert unroll.reward_TB is not None
    unroll.reward_TB.zero_()
    return unroll


class Every(Callback):
    """Keeps each update's metrics."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.points.append(pl_module.train_metrics.compute())
        pl_module.train_metrics.reset()
