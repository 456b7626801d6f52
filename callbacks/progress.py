"""The terminal while a run trains: a bar over the FLOP budget, or a few lines in a log file.

A sweep over many runs shows where each stands: the bar writes that to the run's folder, too.
"""

from __future__ import annotations

import time
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from agent_scaling.runtime.formats import clock
from agent_scaling.runtime.progress_bar import Bar
from agent_scaling.runtime.terminal import plain_console
from agent_scaling.tracking.standing import EVERY, Standing, write_standing
from agent_scaling.training.device.utilisation import Utilisation
from agent_scaling.training.hooks import (
    HasBudget,
    MeasuresSpeed,
    RunCallback,
    Stage,
    find,
    run_module,
    step_loss,
)
from agent_scaling.training.modules.base import PolicyModule
from agent_scaling.training.summary import print_milestone, print_start

WARM_UP = 3
"""First steps, which are slower: memory is allocated and kernels are chosen."""
MEASURED_SECONDS = 5.0
"""Seconds of steps after the warm-up, from which the run's time is predicted."""
WORTH_SAYING = 30.0
"""Seconds of training below which no prediction is printed."""
LOSS_SECONDS = 1.0
"""Seconds between two readings of a GPU's loss: the host waits for each."""
WIDE = 100
"""Columns that a terminal needs to show FLOP/s, too."""
LINE_SHARE, LINE_SECONDS, LONGEST = 0.1, 10.0, 3600.0
"""Lines where there is no terminal: one per tenth of the budget, at most one in ten seconds, and at
least one an hour."""


class RunBar(Bar):
    """The bar of a training run over its FLOPs; in a log, a line per tenth of the budget."""

    recent = 30.0
    expand = True

    def __init__(
        self,
        module: PolicyModule,
        total: float | None,
        console: Console,
        used: Utilisation | None = None,
    ) -> None:
        self._module, self._begun_with, self._used = module, module.flops, used
        super().__init__(
            "{task.description}",
            total=total,
            console=console,
            done=int(module.flops),
            description="train",
            rate=0.0,
            flop_rate=0.0,
            loss=float("nan"),
            mfu="",
        )

    def columns(self) -> list[ProgressColumn]:
        """Return the task's name, the bar, loss, speeds and times."""
        wide = self.console.width >= WIDE
        return [
            TextColumn(self._text, style="bold", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[rate]:,.0f} frames/s{task.fields[mfu]}"),
            *([TextColumn("{task.fields[flop_rate]:.2g} FLOP/s")] if wide else []),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]

    def step(self, loss: float) -> None:
        """Move the bar to the FLOPs that the module has spent."""
        speed = self.task.speed or 0.0  # FLOPs per second, as measured by rich
        self.move(
            description="train",
            completed=self._module.flops,
            rate=speed / self._module.flops_per_frame,
            flop_rate=speed,
            loss=loss,
            mfu=self._mfu(speed),
        )

    def _mfu(self, speed: float) -> str:
        """The utilisation at so many FLOPs of the budget per second, as text; empty: not known."""
        spent = self._module.flops - self._begun_with
        if self._used is None or not spent:
            return ""
        return f", MFU {self._used.share(speed * self._used.executed / spent, 1.0):.1%}"

    def due(self, waited: float, moved: float) -> bool:
        """Return True for each tenth of the budget, within the bounds of seconds."""
        share = moved / self.task.total if self.task.total else 0.0
        return (share >= LINE_SHARE and waited >= LINE_SECONDS) or waited >= LONGEST

    def line(self) -> str:
        """Return the line: share of the budget, times, frames, loss, and speed with evaluation."""
        module, total, passed = self._module, self.task.total, self.seconds
        speed = (module.flops - self._begun_with) / passed
        done = f"{module.flops / total:4.0%}" if total else f"{module.flops:.3g} FLOPs"
        left = f", {clock((total - module.flops) / speed)} left" if total and speed else ""
        return (
            f"{done} after {clock(passed)}{left}: {module.frames:,} frames, "
            f"loss {self.task.fields['loss']:.3f}, {speed / module.flops_per_frame:,.0f} frames/s"
            f"{self._mfu(speed)}"
        )


class ProgressBar(RunCallback):
    """A bar with frames/s, FLOP/s, loss, share of the budget, and time left.

    After some measured seconds, a line predicts the time that the budget takes. Where the output
    is not a terminal, lines now and then replace the bar. ``standing.json`` in the run's folder
    has the same numbers for a sweep.
    """

    stage = Stage.SHOW

    def __init__(self) -> None:
        self._bar: RunBar | None = None
        self._steps = 0
        self._losses: list[float] = []
        """Losses that were read since ``standing.json`` was written: on a CPU, of all steps."""
        self._loss: float | None = None
        """The mean that it has."""
        self._written = 0.0
        self._latest, self._read_at = float("nan"), 0.0
        self._mark: tuple[float, float] | None = None
        """Time and FLOPs at the end of the warm-up; None once the prediction is made."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a summary of the run, and open the bar at the work that is already done."""
        if not trainer.is_global_zero:
            return
        module = run_module(pl_module)
        total, speed = budget(trainer, module), find(trainer, MeasuresSpeed)
        used = speed.utilisation if speed else None
        print_start(trainer, module, total)
        self._bar, self._read_at = RunBar(module, total, plain_console(), used), time.monotonic()
        self._bar.open()
        self._write(trainer, module, "train")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Move the bar; without a terminal, print a line when it is due."""
        if self._bar is None:
            return
        self._steps += 1
        module = run_module(pl_module)
        self._predict(self._bar, module)
        self._bar.step(self._read(step_loss(outputs)))
        if time.monotonic() - self._written >= EVERY:
            self._write(trainer, module, "train")

    def before_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Show on the bar why it stands still."""
        if self._bar is not None:
            self._bar.describe("test")
            self._write(trainer, module, "test")
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

    def _read(self, loss: Tensor) -> float:
        """Return the loss; on a GPU, the one that was read a second ago or less."""
        now = time.monotonic()
        if loss.device.type == "cpu" or now - self._read_at >= LOSS_SECONDS:
            self._latest, self._read_at = float(loss), now
            self._losses.append(self._latest)
        return self._latest

    def _predict(self, bar: RunBar, module: PolicyModule) -> None:
        """Predict the time for the rest of the budget, after some seconds of steps."""
        total, now = bar.task.total, time.monotonic()
        if self._steps == WARM_UP:
            self._mark = (now, module.flops)
        if self._mark is None or total is None or now - self._mark[0] < MEASURED_SECONDS:
            return
        seconds, speed = now - self._mark[0], (module.flops - self._mark[1]) / (now - self._mark[0])
        self._mark = None
        if speed > 0 and (left := (total - module.flops) / speed) > WORTH_SAYING:
            bar.console.print(
                f"time    {clock(left)} of training to go, at the "
                f"{speed / module.flops_per_frame:,.0f} frames/s of the first {seconds:.0f} s; "
                "evaluation and games come on top",
                soft_wrap=True,
            )

    def _write(self, trainer: Trainer, module: PolicyModule, doing: str) -> None:
        """Write to the run's folder where it stands."""
        rate = self._bar.task.fields["rate"] if self._bar is not None else 0.0
        if self._losses:
            self._loss = sum(self._losses) / len(self._losses)
        now = Standing(module.frames, float(rate), self._loss, doing)
        write_standing(Path(trainer.default_root_dir), now)
        self._losses, self._written = [], time.monotonic()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.describe("train")
            self._bar.close()
            self._bar = None


def budget(trainer: Trainer, module: PolicyModule) -> float | None:
    """The run's FLOP budget, if it has one, in the ``model`` convention."""
    found = find(trainer, HasBudget)
    if found is None or found.budget is None:
        return None
    return found.budget * module.flops_per_frame / module.costs_per_frame[found.convention]
