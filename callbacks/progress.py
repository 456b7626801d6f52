"""The terminal while a run trains: a bar over the FLOP budget, or a few lines in a log file."""

from __future__ import annotations

import time
from typing import Any

from lightning import LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from agent_scaling.runtime.formats import clock
from agent_scaling.training.hooks import HasBudget, RunCallback, Stage, find, run_module
from agent_scaling.training.modules.base import PolicyModule
from agent_scaling.training.summary import print_milestone, print_start

WARM_UP = 3
"""First steps, which are slower: memory is allocated and kernels are chosen."""
MEASURED_SECONDS = 5.0
"""Seconds of steps after the warm-up, from which the run's time is predicted."""
WORTH_SAYING = 30.0
"""Seconds of training below which no prediction is printed."""
WIDE = 100
"""Columns that a terminal needs to show FLOP/s, too."""
LINE_SHARE, LINE_SECONDS, LONGEST = 0.1, 10.0, 3600.0
"""Lines where there is no terminal: one per tenth of the budget, at most one in ten seconds, and at
least one an hour."""


class ProgressBar(RunCallback):
    """A bar with frames/s, FLOP/s, loss, share of the budget, and time left.

    After some measured seconds, a line predicts the time that the budget takes. Where the output
    is not a terminal, lines now and then replace the bar.
    """

    stage = Stage.SHOW

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        self._steps = 0
        self._mark: tuple[float, float] | None = None
        """Time and FLOPs at the end of the warm-up; None once the prediction is made."""
        self._began = self._line_at = 0.0
        self._begun_with = self._line_flops = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a summary of the run, and open the bar at the work that is already done."""
        if not trainer.is_global_zero:
            return
        module = run_module(pl_module)
        total = budget(trainer, module)
        print_start(trainer, module, total)
        self._began = self._line_at = time.monotonic()
        self._begun_with = self._line_flops = module.flops
        console = Console()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[rate]:,.0f} frames/s"),
            *([TextColumn("{task.fields[flop_rate]:.2g} FLOP/s")] if console.width >= WIDE else []),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._bar.start()
        fields: dict[str, Any] = {"rate": 0.0, "flop_rate": 0.0, "loss": float("nan")}
        self._task = self._bar.add_task("train", total=total, completed=int(module.flops), **fields)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; without a terminal, print a line when it is due."""
        if self._bar is None:
            return
        module = run_module(pl_module)
        self._steps += 1
        self._predict(module)
        speed = self._bar.tasks[0].speed or 0.0  # FLOPs per second, as measured by rich
        self._bar.update(
            self._task,
            description="train",
            completed=module.flops,
            rate=speed / module.flops_per_frame,
            flop_rate=speed,
            loss=float(outputs["loss"]),
        )
        if self._bar.disable:
            self._print_line(module, float(outputs["loss"]))

    def before_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Show on the bar why it stands still."""
        if self._bar is not None:
            self._bar.update(self._task, description="test")
            self._mark = None  # the time that follows is not all training

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Print a line with the measurements at a milestone; the end has tables."""
        if self._bar is not None and not trainer.should_stop:
            print_milestone(trainer, module, flops, self._bar.console)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar at the end."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error has a line of its own."""
        self._close()

    def _predict(self, module: PolicyModule) -> None:
        """Predict the time for the rest of the budget, after some seconds of steps."""
        assert self._bar is not None
        total, now = self._bar.tasks[0].total, time.monotonic()
        if self._steps == WARM_UP:
            self._mark = (now, module.flops)
        if self._mark is None or total is None or now - self._mark[0] < MEASURED_SECONDS:
            return
        seconds, speed = now - self._mark[0], (module.flops - self._mark[1]) / (now - self._mark[0])
        self._mark = None
        if speed > 0 and (left := (total - module.flops) / speed) > WORTH_SAYING:
            self._bar.console.print(
                f"[bold]time[/]    {clock(left)} of training to go, at the "
                f"{speed / module.flops_per_frame:,.0f} frames/s of the first {seconds:.0f} s; "
                "evaluation and games come on top",
                highlight=False,
                soft_wrap=True,
            )

    def _print_line(self, module: PolicyModule, loss: float) -> None:
        assert self._bar is not None
        total, now = self._bar.tasks[0].total, time.monotonic()
        share = (module.flops - self._line_flops) / total if total else 0.0
        due = share >= LINE_SHARE and now - self._line_at >= LINE_SECONDS
        if not due and now - self._line_at < LONGEST:
            return
        self._line_at, self._line_flops = now, module.flops
        passed = now - self._began
        speed = (module.flops - self._begun_with) / passed  # evaluation and games included
        done = f"{module.flops / total:4.0%}" if total else f"{module.flops:.3g} FLOPs"
        left = f", {clock((total - module.flops) / speed)} left" if total and speed else ""
        self._bar.console.print(
            f"{done} after {clock(passed)}{left}: {module.frames:,} frames, loss {loss:.3f}, "
            f"{speed / module.flops_per_frame:,.0f} frames/s",
            highlight=False,
            soft_wrap=True,
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description="train")
            self._bar.stop()
            self._bar = None


def budget(trainer: Trainer, module: PolicyModule) -> float | None:
    """The run's FLOP budget, if it has one, in the ``model`` convention."""
    found = find(trainer, HasBudget)
    if found is None or found.budget is None:
        return None
    return found.budget * module.flops_per_frame / module.costs_per_frame[found.convention]
