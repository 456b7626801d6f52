"""Inverse dynamics: learns from games with actions which action led from one frame to the next."""

from __future__ import annotations

from typing import Any

from agent_scaling.policies.flops import BUDGETS
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.training.optim.schedules import Schedule


class InverseDynamics(BehaviouralCloning):
    """Trains a policy that also sees later frames, by cross-entropy with the true action.

    This is the model of BCO (Torabi et al. 2018, arXiv 1805.01954, §4.1). ``agent-scaling label``
    uses it to label games without actions. A window also has ``lookahead`` frames of the next
    window, which are seen and not learnt from. They are computed twice, and FLOPs count them twice.

    Args:
        policy: The model: a policy whose core looks both ways.
        optimizer: Makes the policy's optimiser.
        schedule: The learning rate over frames or FLOPs; ``None``: constant.
        unroll_length: Frames of a window that are learnt from; equals ``data.unroll_length``.
        lookahead: Frames after them; equals ``data.lookahead``.

    Raises:
        InputError: The policy does not look ahead, or sees the answer.
    """

    counted = "forward and backward, the frames ahead included"

    def __init__(
        self,
        policy: Policy,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        *,
        unroll_length: int,
        lookahead: int,
    ) -> None:
        super().__init__(policy, optimizer, schedule)
        if lookahead < 1:
            raise InputError(
                f"data.lookahead={lookahead}: an action's effect shows in the frame after it; "
                "set at least 1"
            )
        self.lookahead = lookahead
        seen = 1 + lookahead / unroll_length
        self.costs_per_frame = {c: seen * self.costs_per_frame[c] for c in BUDGETS}
        self.flops_per_frame = self.costs_per_frame["model"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the number of frames ahead: labelling must show the model as many."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["lookahead"] = self.lookahead

    def check_policy(self, policy: Policy) -> None:
        """Refuse a policy that sees no later frames, or that sees the action itself.

        Raises:
            InputError: The core is causal, or the encoder reads the previous action.
        """
        if policy.causal:
            raise InputError(
                "module=inverse: the policy's core sees only the past; set "
                "policy/core=bidirectional_lstm"
            )
        if without := getattr(policy.encoder, "sees_actions", ""):
            raise InputError(
                "module=inverse: the policy's encoder sees the previous action, and that of the "
                f"next frame is the answer; set {without}"
            )
