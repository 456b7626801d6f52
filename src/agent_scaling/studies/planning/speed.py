"""Training speed of a policy: measured by real steps, or read from finished runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence

import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from omegaconf import DictConfig

from agent_scaling.runtime.allocator import keep_memory
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.plan_file import Run, Store
from agent_scaling.tracking.store import open_store, runs_of_study, store_errors
from agent_scaling.training.build import build, quiet
from agent_scaling.training.device.compilation import compile_module, split
from agent_scaling.training.hooks import run_module

WARM_UP = 3
SECONDS = 5.0
STEPS = 200

Speeds = tuple[tuple[float, float], ...]


class Stopwatch(Callback):
    """Stops after :data:`SECONDS` of steps that were not warm-up."""

    def __init__(self) -> None:
        self._steps = 0
        self._begin = self._before = 0.0
        self.flops_per_second = 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Count FLOPs (``model`` convention) since the warm-up."""
        module = run_module(pl_module)
        self._steps += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        if self._steps <= WARM_UP:
            self._begin, self._before = now, module.flops
            return
        self.flops_per_second = (module.flops - self._before) / (now - self._begin)
        if now - self._begin > SECONDS or self._steps >= STEPS:
            trainer.should_stop = True


def probe(cfg: DictConfig) -> float:
    """FLOP/s (``model`` convention) of a few training steps of a config, one process."""
    quiet()
    keep_memory()
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    module, data = build(cfg)
    watch, (options, backend, plugins) = Stopwatch(), split(cfg.trainer)
    with tempfile.TemporaryDirectory() as folder:
        trainer: Trainer = instantiate(
            options,
            default_root_dir=folder,
            callbacks=[watch],
            logger=False,
            plugins=plugins or None,
        )
        if backend is not None:
            compile_module(module, trainer, backend)
        trainer.fit(module, data)
    return watch.flops_per_second


def speeds_of(
    asked: float | str, runs: Sequence[Run], store: Store, cfg: Callable[[Run], DictConfig]
) -> Speeds:
    """(parameters, FLOP/s) at one or more sizes.

    Args:
        asked: FLOP/s of all sizes; ``probe``: measured at the smallest and the largest;
            anything else is the tag ``study`` of finished runs.
        runs: The plan's runs.
        store: Where finished runs are looked for.
        cfg: The training config of a run.
    """
    if isinstance(asked, int | float):
        if asked <= 0:
            raise InputError(f"speed={asked}: give FLOP/s above 0, probe, or a study")
        return ((1.0, float(asked)),)
    if asked == "probe":
        ends = {min(runs, key=size_of).params: min(runs, key=size_of)}
        ends[max(runs, key=size_of).params] = max(runs, key=size_of)
        return tuple((float(n), probe(cfg(run))) for n, run in ends.items())
    return of_finished(asked, store)


def size_of(run: Run) -> int:
    """Trainable parameters of the policy."""
    return run.params


def of_finished(study: str, store: Store) -> Speeds:
    """The last ``speed/flops_per_second`` of each size that a study has trained."""
    with store_errors(store.tracking_uri):
        client = open_store(store.tracking_uri)
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = runs_of_study(client, experiments, study)
    found: dict[float, float] = {}
    for run in runs:
        speed = run.data.metrics.get("speed/flops_per_second")
        if speed and "policy.num_params" in run.data.params:
            found[float(run.data.params["policy.num_params"])] = speed
    if not found:
        raise InputError(f"speed={study}: no run with that tag `study` in {store.tracking_uri}")
    return tuple(found.items())
