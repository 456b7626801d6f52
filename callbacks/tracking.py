"""Logs training metrics: means over the frames since the last point."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, NotRequired, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from typing_extensions import TypedDict

from agent_scaling.data.batch import Batch
from agent_scaling.envs.versions import COLUMNS, installed_versions, versions_text
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.ranks import gathered
from agent_scaling.tracking.logger import log_file, log_metrics
from agent_scaling.training.course.saved import Number, Plain, state_of
from agent_scaling.training.device.utilisation import Utilisation, measure
from agent_scaling.training.hooks import (
    KeepsMilestones,
    MeasuresSpeed,
    crossed,
    measurements,
    milestone_name,
    run_data,
    run_module,
)
from agent_scaling.training.modules.base import PolicyModule


class TrackingState(TypedDict):
    """Values of a checkpoint that this callback takes up again."""

    milestones: list[dict[str, Plain]]
    cpu_seconds: NotRequired[Number]


class Tracking(KeepsMilestones, MeasuresSpeed):
    """Logs ``train/…`` every ``every_frames``, and keeps a table of milestones as an artifact.

    Args:
        every_frames: Frames between points, all ranks; each point covers the frames since the last.
        peak_flops: FLOP/s of one of the run's devices at its best, for ``speed/mfu``; ``None``
            looks it up by the device's name and the trainer's precision.
    """

    def __init__(self, every_frames: int = 50_000, peak_flops: float | None = None) -> None:
        if peak_flops is not None and not peak_flops > 0:
            raise InputError(f"callbacks.tracking.peak_flops={peak_flops:g}: must be positive")
        self.every_frames, self.peak_flops = every_frames, peak_flops
        self.utilisation: Utilisation | None = None
        self._executed = 0.0  # FLOPs at the last point
        self.milestones: list[dict[str, Any]] = []
        self._mark: tuple[float, int, float] | None = None
        self.cpu_seconds = 0.0
        """CPU time of this process in training, all threads and attempts, without the evaluation,
        rollouts and saving at milestones."""
        self._cpu_mark: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the milestones so far, and the CPU time."""
        self._count_cpu()
        return {"milestones": self.milestones, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the milestones and the CPU time."""
        state = state_of(TrackingState, state_dict)
        self.milestones, self.cpu_seconds = state["milestones"], state.get("cpu_seconds", 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the resolved config with the run."""
        module = run_module(pl_module)
        self._mark = (time.monotonic(), module.frames, module.flops)
        self.utilisation = measure(trainer, module, self.peak_flops)
        log_file(trainer, Path(trainer.default_root_dir) / "config.yaml")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Continue to count CPU time after a milestone; count the step's FLOPs before any of its
        milestones is announced."""
        if self.utilisation is not None:
            self.utilisation.add(cast("Batch | dict[str, Batch]", batch))
        if self._cpu_mark is None:
            self._cpu_mark = time.process_time()

    def before_milestone(self, trainer: Trainer, pl_module: LightningModule, flops: float) -> None:
        """Stop counting CPU time until the next step."""
        self._count_cpu()
        self._cpu_mark = None

    def _count_cpu(self) -> None:
        if self._cpu_mark is not None:
            now = time.process_time()
            self.cpu_seconds, self._cpu_mark = self.cpu_seconds + now - self._cpu_mark, now

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log a point when a multiple of ``every_frames`` is crossed."""
        module = run_module(pl_module)
        if crossed(module, self.every_frames):
            self._log_point(trainer, module)

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Close the point, and add the milestone's measurements to the table."""
        self._log_point(trainer, module)
        params = module.policy.num_params  # a param as well, but params cannot be drawn in charts
        log_metrics(trainer, module, {"num_params": params, "log10_params": math.log10(params)})
        row: dict[str, Any] = {"milestone": flops, "flops": module.flops, "frames": module.frames}
        row["cpu_seconds"] = round(self.cpu_seconds, 3)
        game = module.policy.game
        texts = (game.versions, installed_versions(game.family))
        row |= {name: versions_text(found) for name, found in zip(COLUMNS, texts, strict=True)}
        row["checkpoint"] = f"checkpoints/{milestone_name(flops)}"
        row |= measurements(trainer)
        self.milestones.append(row)
        path = Path(trainer.default_root_dir) / "milestones.json"
        if trainer.is_global_zero:
            write_file(path, json.dumps(self.milestones, indent=1))
        log_file(trainer, path)

    def _log_point(self, trainer: Trainer, module: PolicyModule) -> None:
        if not module.train_metrics.update_called:
            return  # this step has logged a point already
        measured = module.train_metrics.compute()
        module.train_metrics.reset()
        now, (then, frames, flops) = time.monotonic(), self._mark or (0.0, 0, 0.0)
        self._mark = (now, module.frames, module.flops)
        if not measured:
            return
        point = {f"train/{name}": value for name, value in measured.items()}
        seconds = max(now - then, 1e-9)
        point["speed/frames_per_second"] = (module.frames - frames) / seconds
        point["speed/flops_per_second"] = (module.flops - flops) / seconds
        if self.utilisation is not None:
            executed = self.utilisation.executed - self._executed
            self._executed = self.utilisation.executed
            point["speed/mfu"] = self.utilisation.share(executed, seconds)
        point["train/skipped_frames"] = sum(gathered(module.skipped_frames))
        module.skipped_frames = 0
        point["train/lr"] = module.learning_rate
        point["train/grad_norm"] = float(module.grad_norm.compute())
        module.grad_norm.reset()
        point |= run_data(trainer).progress(module.frames)
        log_metrics(trainer, module, point)
