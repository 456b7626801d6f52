"""Behavioural cloning: cross-entropy with the expert's action; the state crosses windows."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.data.run_data import Kind, RecordedData
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.evaluation.held_out import Evaluation
from agent_scaling.evaluation.next_action import NextActionMetrics
from agent_scaling.policies.policy import Policy, State
from agent_scaling.policies.sharding import is_sharded, shard_policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.ranks import count_ranks, summed
from agent_scaling.training.modules.base import PolicyModule, compiled
from agent_scaling.training.modules.lane_state import dealt_lanes, gathered_lanes
from agent_scaling.training.objectives.losses import summed_nats
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.training.optim.schedules import Schedule


class BehaviouralCloning(PolicyModule):
    """Behavioural cloning by truncated back-propagation through time (arXiv 2307.09423, §3).

    Each lane's state crosses from window to window without gradient, and is reset where a game
    opens. Frames without a decision (action -100) carry no loss. A gradient accumulated over k
    windows is the mean of their gradients; the state crosses these windows, too.

    Args:
        policy: The policy to train.
        optimizer: Makes the policy's optimiser.
        schedule: The learning rate over frames or FLOPs; ``None``: constant.
        weights: ``probability`` weighs each decision by the probability of its label, in games
            that a model has labelled; ``None`` weighs all decisions alike.
        min_probability: Labels of a lower probability are not learnt from.

    Raises:
        InputError: The policy needs frames ahead, or a value is out of its range.
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"recordings"})

    def __init__(
        self,
        policy: Policy,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        *,
        weights: str | None = None,
        min_probability: float = 0.0,
    ) -> None:
        self.check_policy(policy)
        if weights not in (None, "probability"):
            raise InputError(f"module.weights={weights}: must be null or probability")
        if not 0 <= min_probability <= 1:
            raise InputError(f"module.min_probability={min_probability}: must be 0 to 1")
        super().__init__(policy, optimizer, schedule)
        self.weights, self.min_probability = weights, min_probability
        self.lane_state: State | None = None
        self.train_metrics = NextActionMetrics()
        self._summed_nats = summed_nats

    def check_policy(self, policy: Policy) -> None:
        """Refuse a policy that this module cannot train.

        Raises:
            InputError: The policy needs frames ahead.
        """
        policy.check_causal("policy.core goes with module=inverse alone")

    def configure_model(self) -> None:
        """Shard the policy over the ranks, where the trainer's strategy is FSDP.

        Raises:
            InputError: The optimiser needs whole parameters, which a shard does not hold.
        """
        if self.device_mesh is None or is_sharded(self.policy):
            return
        self.make_optimizer.check_sharded()
        shard_policy(self.policy, self.device_mesh, half=self.trainer.precision == "bf16-true")

    def compile_parts(self, backend: str) -> None:
        """Compile the policy and the loss."""
        super().compile_parts(backend)
        self._summed_nats = torch.compile(summed_nats, **compiled(backend))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean nats over the window's decisions, weighted as ``weights`` says.

        Averaged over ranks, it is the mean over the decisions of all their lanes.
        """
        if self.lane_state is None:
            self.lane_state = self.policy.initial_state(batch.lanes)
        logits_TBA, _, state = self.policy(batch, self.lane_state)
        # A part that is a view would keep the whole window, and compiled graphs know strides.
        self.lane_state = tuple(part.detach().contiguous() for part in state)
        action_TB, weight_TB = self.learnt(batch)
        nats, decisions = self._summed_nats(logits_TBA, action_TB, weight_TB)
        self.train_metrics.update(logits_TBA, action_TB)
        self.count((batch.steps - batch.ahead) * batch.lanes, batch.skipped)
        # Gradients are averaged over ranks, whose decisions differ in number: all divide by the
        # ranks' mean number.
        least = 1 if weight_TB is None else torch.finfo(torch.float32).tiny
        return nats / (summed(decisions).clamp(min=least) / count_ranks())

    def learnt(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The actions that a window is trained on, and their weights; None: all weigh alike.

        Raises:
            InputError: Weights or a threshold are asked for, and the actions are not labels.
        """
        given_TB, action_TB = batch.probability_TB, batch.action_TB
        if self.weights is None and not self.min_probability:
            return action_TB, None
        if given_TB is None:
            raise InputError(
                "module.weights and module.min_probability: these shards hold the players' own "
                "keys, without probabilities; give shards of agent-scaling label, or set neither"
            )
        action_TB = action_TB.masked_fill(given_TB < self.min_probability, NO_ACTION)
        return action_TB, given_TB if self.weights else None

    def on_validation_epoch_start(self) -> None:
        """Begin a pass over the held-out games."""
        data = vars(self.trainer)["datamodule"]
        assert isinstance(data, RecordedData)
        self._evaluation = Evaluation(self.policy, data.val_games, self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a window to the evaluation of ``trainer.validate``.

        While training, ``callbacks.held_out`` evaluates instead.
        """
        self._evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the held-out metrics as ``val/…``."""
        self.log_dict({f"val/{k}": v for k, v in self._evaluation.compute().items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the lanes' states of all ranks."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["lane_state"] = gathered_lanes(self.lane_state, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this rank's share of the lanes' states."""
        super().on_load_checkpoint(checkpoint)
        self.lane_state = dealt_lanes(checkpoint["lane_state"], self.trainer, self.device)
