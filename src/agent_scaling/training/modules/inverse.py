"""Inverse dynamics: which action turned one frame into the next, learnt from games with actions."""

from __future__ import annotations

from typing import Any

from agent_scaling.policies.flops import BUDGETS
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.training.optim.schedules import Schedule


class InverseDynamics(BehaviouralCloning):
    """Cross-entropy with the true action, by a policy that sees later frames too (BCO, Torabi et
    al. 2018, arXiv 1805.01954, §4.1): ``agent-scaling label`` then labels games without actions.

    A window has ``lookahead`` frames of the next, which are seen and not learnt from: they are
    computed twice, and FLOPs count that.

    Args:
        policy: The model: a policy whose core looks both ways.
        optimizer: Makes its optimiser.
        schedule: The learning rate over frames or FLOPs; ``None``: constant.
        unroll_length: Frames of a window that are learnt from, as the data have it.
        lookahead: Frames behind them, as the data have it.

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
                f"data.lookahead={lookahead}: what an action did shows in the frame after it; "
                "set at least 1"
            )
        self.lookahead = lookahead
        seen = 1 + lookahead / unroll_length
        self.costs_per_frame = {c: seen * self.costs_per_frame[c] for c in BUDGETS}
        self.flops_per_frame = self.costs_per_frame["model"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the frames ahead: labelling looks at as many."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["lookahead"] = self.lookahead

    def check_policy(self, policy: Policy) -> None:
        """Raise :class:`InputError` for one that needs no frames ahead, or is told the action."""
        if policy.causal:
            raise InputError(
                "module=inverse: the policy's core sees the past alone; set "
                "policy/core=bidirectional_lstm"
            )
        if getattr(policy.encoder, "num_actions", 0):
            raise InputError(
                "policy.encoder.prev_action=true: the key before the next frame is the answer; "
                "set it to false"
            )
