"""System metrics of the machine during a run, measured by MLflow's own monitors."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from agent_scaling.tracking.logger import log_metrics
from agent_scaling.training.hooks import RunCallback, Stage, run_module
from agent_scaling.training.modules.base import PolicyModule

MONITORS: tuple[Any, ...] = (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor)


class SystemMetrics(RunCallback):
    """Logs ``system/…`` of the first rank's machine every ``every_seconds``, and at milestones.

    Samples are taken between steps, in the run's own thread, and logged like all metrics. (MLflow
    would start a thread that asks the server each time, and that ends for good when the server is
    away. Here, a signal or a kill leaves no thread behind.) CPU use is the mean since the last
    sample.

    Args:
        every_seconds: Seconds between samples, each of which takes far less than 1 ms of CPU time.
    """

    stage = Stage.RECORD

    def __init__(self, every_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds
        self._monitors: list[Any] = []
        self._sampled_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start MLflow's monitors of this machine."""
        self._sampled_at = time.monotonic()
        if not trainer.is_global_zero:
            return
        for monitor in MONITORS:
            with suppress(ImportError, RuntimeError):  # the machine has no GPU of NVIDIA's
                self._monitors.append(monitor())
        self._sample()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log at an optimiser step when a sample is due."""
        module = run_module(pl_module)
        if module.step_frames and time.monotonic() - self._sampled_at >= self.every_seconds:
            self._log(trainer, module)

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Log at milestones, so that evaluation counts and a short run has a sample."""
        self._log(trainer, module)

    def _sample(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self._sampled_at = time.monotonic()
        return found

    def _log(self, trainer: Trainer, module: PolicyModule) -> None:
        found = self._sample()
        log_metrics(trainer, module, {f"system/{name}": value for name, value in found.items()})
