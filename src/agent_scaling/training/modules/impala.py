"""IMPALA: a policy learns from games that it played a few updates ago (arXiv 1802.01561)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from agent_scaling.data.batch import Batch
from agent_scaling.data.run_data import Kind, RunData
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.evaluation.means import Means, Total
from agent_scaling.policies.encoders.atari import Centring
from agent_scaling.policies.flops import BUDGETS, Convention, flops_per_frame
from agent_scaling.policies.policy import Policy, State
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.ranks import count_ranks, summed
from agent_scaling.training.modules.base import PolicyModule, compiled
from agent_scaling.training.modules.lane_state import dealt_lanes, gathered_lanes
from agent_scaling.training.objectives.impala import Objective, PlayLosses
from agent_scaling.training.objectives.losses import kl_divergences, summed_nats
from agent_scaling.training.objectives.rewards import Rewards
from agent_scaling.training.objectives.teacher import Ramp, Teacher
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.training.optim.schedules import Schedule

METRICS = (
    "return", "length", "reward", "policy_loss", "baseline_loss", "entropy", "rho", "lag",
    "restarted", "teacher_kl", "cloning_nats",
)  # fmt: skip
"""Logged metrics; ``docs/impala.md`` explains each."""
KINDS = ("acting", "learning", "teaching", "cloning")
"""Kinds of work that FLOPs are spent on."""


class Impala(PolicyModule):
    """The learner: V-trace policy gradient, baseline and entropy; optionally teacher and cloning.

    A batch is an unroll that actors played (T+1 frames), or such an unroll and a window of
    demonstrations (``unroll``, ``demonstrations``). Frames are environment interactions: T · B for
    each unroll. BatchNorm's statistics are frozen, so that learner and actors are the same function
    of a frame. The mean screen of Atari's compact policy is learnt on, but not by the critic alone.

    Args:
        policy: The policy to train.
        optimizer: Makes the policy's optimiser.
        schedule: The learning rate over frames or FLOPs; ``None``: constant.
        objective: Discount, costs, V-trace's thresholds.
        rewards: Turns the game's rewards into the learner's.
        critic_frames: The first frames, which train the baseline's layer alone: the baseline of a
            cloned policy is untrained.
        teacher: A frozen policy to stay near (kickstarting, arXiv 1803.03835).
        cloning: Weight of the cross-entropy on demonstrations, over frames.

    Raises:
        InputError: The policy needs frames ahead or has no baseline, or the teacher has another
            number of actions.
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"unrolls"})
    counted = "acting once; learning, forward and backward"

    def __init__(
        self,
        policy: Policy,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        *,
        objective: Objective | None = None,
        rewards: Rewards | None = None,
        critic_frames: int = 0,
        teacher: Teacher | None = None,
        cloning: Ramp | None = None,
    ) -> None:
        policy.check_causal("module=impala")
        super().__init__(policy, optimizer, schedule)
        if teacher is not None and teacher.policy.num_actions != policy.num_actions:
            raise InputError(
                f"module.teacher chooses from {teacher.policy.num_actions} actions, the policy "
                f"from {policy.num_actions}: give a teacher that was trained on the same game"
            )
        if policy.baseline is None:
            raise InputError("policy.baseline=false: learning by playing needs one; set it to true")
        self.objective, self.rewards = objective or Objective(), rewards or Rewards()
        self.critic_frames, self.teacher, self.cloning = critic_frames, teacher, cloning
        self._play_losses, self._summed_nats = self.objective.losses, summed_nats
        self.demo_state: State | None = None
        self.train_metrics = Means(METRICS)
        self.unit_costs = unit_costs(policy, teacher)
        """FLOPs per frame of each kind, by convention."""
        self.worked = dict.fromkeys(KINDS, 0)
        """Frames of each kind so far, all ranks."""
        self._working = dict.fromkeys(KINDS, 0)  # of steps that wait for the optimiser
        kinds = [kind for kind in KINDS if kind != "cloning" or cloning]
        # An approximation: the last frame of each unroll is learnt from twice (cost_of_batches).
        self.costs_per_frame = {c: sum(self.unit_costs[k][c] for k in kinds) for c in BUDGETS}
        self.flops_per_frame = self.costs_per_frame["model"]

    def check_data(self, data: RunData) -> None:
        """Refuse recorded games alone, and demonstrations that nothing asks for.

        Raises:
            InputError: The data have no unrolls.
        """
        if "unrolls" not in data.gives:
            raise InputError(
                "module=impala learns by playing, and data has recorded games alone; give "
                "data=actors, or data=mixed for both"
            )

    def configure_model(self) -> None:
        """Refuse a strategy that shards the policy, because actors play with whole policies.

        Raises:
            InputError: The trainer's strategy is FSDP.
        """
        if self.device_mesh is not None:
            raise InputError("trainer=fsdp: not with module=impala; use trainer=ddp")

    def compile_parts(self, backend: str) -> None:
        """Compile the policy and the losses."""
        super().compile_parts(backend)
        self._play_losses = torch.compile(self.objective.losses, **compiled(backend))
        self._summed_nats = torch.compile(summed_nats, **compiled(backend))

    @property
    def spent(self) -> dict[Convention, float]:
        """FLOPs spent so far, all ranks, by convention."""
        return {c: sum(self._spent_on(kind, c) for kind in KINDS) for c in BUDGETS}

    def cost_of_batches(self, steps: int, convention: Convention = "model") -> float:
        """FLOPs per interaction in unrolls of T = ``steps``; T + 1 frames are learnt from."""
        twice = self.unit_costs["learning"][convention] / steps
        return self.costs_per_frame[convention] + twice

    def executed(self, batch: Batch | dict[str, Batch]) -> float:
        """FLOPs of a step's unroll and demonstrations, and of the actors' and teacher's answers."""
        unroll = batch if isinstance(batch, Batch) else batch["unroll"]
        answers = sum(self.unit_costs[kind]["model"] for kind in ("acting", "teaching"))
        return super().executed(batch) + (unroll.steps - 1) * unroll.lanes * answers

    @property
    def parts(self) -> dict[str, float]:
        """FLOPs so far by kind of work, ``model`` convention."""
        return {kind: self._spent_on(kind, "model") for kind in KINDS if self.worked[kind]}

    @property
    def critic_only(self) -> bool:
        """True while only the baseline's layer learns."""
        return self.frames < self.critic_frames

    def training_step(self, batch: Batch | dict[str, Batch], batch_idx: int) -> Tensor:
        """Return the weighted sum of all losses."""
        unroll = batch if isinstance(batch, Batch) else batch["unroll"]
        freeze_norms(self.policy, self.critic_only)
        loss, totals = self._learn_from_play(unroll)
        skipped = 0
        if not isinstance(batch, Batch) and self.cloning is not None:
            nats, decisions = self._clone(batch["demonstrations"])
            mean = summed(decisions.clone()).clamp(min=1) / count_ranks()
            loss = loss + self.cloning(self.frames) * nats / mean
            totals["cloning_nats"] = (nats.detach(), decisions)
            skipped = batch["demonstrations"].skipped
        self.train_metrics.update(totals)
        self.count((unroll.steps - 1) * unroll.lanes, skipped)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Drop all gradients but the baseline's during its warm-up; count the step's work."""
        if self.critic_only:
            assert self.policy.baseline is not None
            own = set(self.policy.baseline.parameters())
            for parameter in self.policy.parameters():
                if parameter not in own:
                    parameter.grad = None
        for kind, frames in self._working.items():
            self.worked[kind] += frames
        self._working = dict.fromkeys(KINDS, 0)
        super().on_before_optimizer_step(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the frames of each kind, and the lanes of the demonstrations of all ranks."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["worked"] = dict(self.worked)
        checkpoint["demo_state"] = gathered_lanes(self.demo_state, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the frames of each kind and the lanes of the demonstrations."""
        super().on_load_checkpoint(checkpoint)
        self.worked = dict(checkpoint["worked"])
        self.demo_state = dealt_lanes(checkpoint["demo_state"], self.trainer, self.device)

    def _learn_from_play(self, unroll: Batch) -> tuple[Tensor, dict[str, Total]]:
        """The unroll's loss with the teacher's part, and the totals to log."""
        assert unroll.played is not None
        assert unroll.reward_TB is not None
        logits_TBA, values_TB, _ = self.policy(unroll, unroll.played.state)
        reward_TB = self.rewards(unroll.reward_TB[:-1])
        losses = self._play_losses(unroll, reward_TB, logits_TBA, values_TB)
        loss = self.objective.total(losses, self.critic_only)
        steps = reward_TB.numel()
        self._work("acting", steps)
        self._work("learning", values_TB.numel())
        totals = self._totals(unroll, reward_TB, losses)
        if self.teacher is not None and (cost := self.teacher.cost(self.frames)):
            kl_TB = kl_divergences(logits_TBA[:-1], self.teacher.logits(unroll))
            kl_TB = kl_TB * (unroll.action_TB[:-1] != NO_ACTION)
            loss = loss + (0.0 if self.critic_only else cost) * self.objective.reduce(kl_TB)
            totals["teacher_kl"] = (kl_TB.sum(), steps)
            self._work("teaching", steps)
        return loss, totals

    def _clone(self, window: Batch) -> tuple[Tensor, Tensor]:
        """Summed nats of the demonstrations' decisions, and the number of decisions."""
        if self.demo_state is None:
            self.demo_state = self.policy.initial_state(window.lanes)
        logits_TBA, _, state = self.policy(window, self.demo_state)
        self.demo_state = tuple(part.detach().contiguous() for part in state)
        self._work("cloning", window.steps * window.lanes)
        return self._summed_nats(logits_TBA, window.action_TB)

    def _totals(self, unroll: Batch, reward_TB: Tensor, losses: PlayLosses) -> dict[str, Total]:
        assert unroll.played is not None
        steps = reward_TB.numel()
        whole = [record for record in unroll.played.episodes if "return" in record]
        return {
            "return": (sum(float(record["return"]) for record in whole), len(whole)),
            "length": (sum(float(record["steps"]) for record in whole), len(whole)),
            "reward": (reward_TB.sum(), steps),
            "policy_loss": (losses.policy.sum(), steps),
            "baseline_loss": (losses.baseline.sum(), steps),
            "entropy": (losses.entropy.sum(), steps),
            "rho": (losses.log_rho.exp().sum(), steps),
            "lag": (float(self.trainer.global_step - unroll.played.updates), 1.0),
            "restarted": (float(unroll.played.restarted), 1.0),
        }

    def _work(self, kind: str, frames: int) -> None:
        self._working[kind] += frames * self.trainer.world_size

    def _spent_on(self, kind: str, convention: Convention) -> float:
        return self.worked[kind] * self.unit_costs[kind][convention]


def unit_costs(policy: Policy, teacher: Teacher | None) -> dict[str, dict[Convention, float]]:
    """FLOPs of one frame for each kind of work in :data:`KINDS`, by convention."""
    training = {c: flops_per_frame(policy, c) for c in BUDGETS}
    costs = {"learning": training, "cloning": training}
    costs["acting"] = {c: flops_per_frame(policy, c, training=False) for c in BUDGETS}
    costs["teaching"] = dict.fromkeys(BUDGETS, 0.0)
    if teacher is not None:
        costs["teaching"] = {c: flops_per_frame(teacher.policy, c, training=False) for c in BUDGETS}
    return costs


def freeze_norms(policy: nn.Module, critic_only: bool = False) -> None:
    """Let BatchNorm layers use their statistics and keep them, as :class:`Centring` must too while
    only the critic learns: the policy does not change then."""
    for module in policy.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
        elif isinstance(module, Centring):
            module.train(not critic_only)
