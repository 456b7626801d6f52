"""Saves the trained policy as an MLflow model, once, when the run has reached its end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer

from agent_scaling.policies.checkpoints.export import save_model
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.logger import BufferedMLFlowLogger
from agent_scaling.training.course.stopping import preempted
from agent_scaling.training.hooks import (
    KeepsMilestones,
    MeasuresLoss,
    RunCallback,
    Stage,
    checkpoint_folder,
    find,
    run_module,
)
from agent_scaling.training.modules.base import PolicyModule

FOLDER = "model"
NAME = re.compile(r"[\w.-][\w .-]*")


class Model(RunCallback):
    """Writes the policy of a checkpoint to ``<output>/model`` and hands it to MLflow.

    Comes after :class:`~callbacks.checkpoints.Checkpoints`, so the run is trained and saved by
    then. If torch.export cannot take the policy, one line says so, and the run still succeeds.

    Args:
        checkpoint: ``last``, or ``best``, the milestone with the lowest held-out loss.
        register_as: Name in MLflow's registry whose newest version it becomes.

    Raises:
        InputError: ``checkpoint`` is neither, ``register_as`` cannot be a name, or ``best`` has no
            held-out loss to go by.
    """

    stage = Stage.HAND_IN

    def __init__(
        self, checkpoint: Literal["last", "best"] = "last", register_as: str | None = None
    ) -> None:
        if checkpoint not in ("last", "best"):
            raise InputError(f"callbacks.model.checkpoint={checkpoint}: use last or best")
        if register_as is not None and not NAME.fullmatch(register_as):
            raise InputError(
                f"callbacks.model.register_as={register_as!r}: letters, digits, spaces, '.', '_' "
                "and '-' only"
            )
        self.checkpoint, self.register_as = checkpoint, register_as
        self._milestone_at = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse ``best`` before training where no callback measures a held-out loss."""
        if self.checkpoint == "best" and not (
            find(trainer, MeasuresLoss) and find(trainer, KeepsMilestones)
        ):
            raise InputError(
                "callbacks.model.checkpoint=best: needs callbacks.held_out and callbacks.tracking; "
                "use last"
            )

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Note the milestone; the last one is the end of the run."""
        self._milestone_at = module.frames

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and hand in, unless the run was only interrupted or had nothing to do."""
        module = run_module(pl_module)
        ended = self._milestone_at == module.frames and not preempted(trainer)
        if not ended or not trainer.is_global_zero:
            return
        row = self._row(trainer, module)
        folder = Path(trainer.default_root_dir) / FOLDER
        try:
            policy = load_policy(checkpoint_folder(trainer) / f"{self.checkpoint}.ckpt")
            save_model(policy, folder, row)
        except Exception as error:
            say(f"no model for MLflow: the policy cannot be exported ({error_line(error)})")
            return
        measured = {k: float(v) for k, v in row.items() if "/" in k}
        for logger in trainer.loggers:
            if isinstance(logger, BufferedMLFlowLogger):
                logger.log_model(folder, row["frames"], measured, self.register_as)

    def _row(self, trainer: Trainer, module: PolicyModule) -> dict[str, Any]:
        """Return the checkpoint's row of the table of milestones."""
        tracking = find(trainer, KeepsMilestones)
        rows: list[dict[str, Any]] = tracking.milestones if tracking else []
        if self.checkpoint == "best":
            return min(rows, key=lambda row: float(row.get("val/nats", "inf")))
        return rows[-1] if rows else {"frames": module.frames}
