"""The terminal while a run trains: a rich bar over the FLOP budget."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from agent_scaling.summary import print_start
from callbacks.flops import FlopBudget


class ProgressBar(Callback):
    """Frames/s, FLOP/s, loss, share of the budget, time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at what is already done."""
        if not trainer.is_global_zero:
            return
        module: Any = pl_module
        print_start(module, trainer.datamodule, budget(trainer, module))  # type: ignore[attr-defined]
        self._bar = Progress(
            TextColumn("[bold]train"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[rate]:,.0f} frames/s"),
            TextColumn("{task.fields[flop_rate]:.2g} FLOP/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar.start()
        fields: dict[str, Any] = {
            "rate": 0.0,
            "flop_rate": 0.0,
            "loss": float("nan"),
        }
        self._task = self._bar.add_task(
            "train", total=budget(trainer, module), completed=module.flops, **fields
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        module: Any = pl_module
        speed = self._bar.tasks[0].speed or 0.0  # FLOPs per second, as rich measures it
        self._bar.update(
            self._task,
            completed=module.flops,
            rate=speed / module.flops_per_frame,
            flop_rate=speed,
            loss=float(outputs["loss"]),
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error's line stands alone."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def budget(trainer: Trainer, module: Any) -> float | None:
    """The run's FLOP budget, if it has one, in the ``model`` convention."""
    found = [c for c in trainer.callbacks if isinstance(c, FlopBudget)]  # type: ignore[attr-defined]
    if not found or found[0].budget is None:
        return None
    return float(
        found[0].budget * module.flops_per_frame / module.costs_per_frame[found[0].convention]
    )
