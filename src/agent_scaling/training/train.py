"""The ``train`` verb: instantiate the parts, resume if asked, train a run and its branches."""

from __future__ import annotations

import copy
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Unpack

import lightning
import torch
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from agent_scaling.config.command import quoted, setting
from agent_scaling.runtime.allocator import keep_memory
from agent_scaling.runtime.errors import InputError, reading
from agent_scaling.runtime.files import FullDiskError
from agent_scaling.runtime.locks import LOCK_FILE, output_locked
from agent_scaling.runtime.processes import die_with_parent
from agent_scaling.runtime.terminal import is_first, say
from agent_scaling.training.build import AtomicCheckpointIO, build, choose_strategy, quiet
from agent_scaling.training.course.branches import BranchPoints, branches_of
from agent_scaling.training.course.resume import BEGINNING, OneStart, check_fits, find_resume
from agent_scaling.training.course.stopping import SIGNALS, fit, is_launched, status_of_stop
from agent_scaling.training.device.compilation import compile_module, split
from agent_scaling.training.hooks import callbacks_of, in_order
from agent_scaling.training.keys import TrainKeys, check_callbacks, check_trainer
from agent_scaling.training.modules.base import PolicyModule
from agent_scaling.training.run_record import CONFIG, Resumed, reach_logger, write_config
from agent_scaling.training.summary import begin_branch, print_branches, print_end

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""Exceptions that say nothing of the checkpoint that a run goes on from."""


def train(**config: Unpack[TrainKeys]) -> None:
    """Train what the config describes into ``output``, then its branches.

    It exits with 143 after SIGTERM, which schedulers take for "run me again", with 130 after
    Ctrl-C.

    Raises:
        InputError: The output folder holds a run that was not asked to go on, is in use or not
            writable, or the checkpoint does not fit the config.
    """
    cfg = OmegaConf.create(dict(config))
    check_callbacks(cfg)
    check_trainer(cfg)
    quiet()
    choose_strategy(cfg.trainer)
    keep_memory()
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    output, branches = Path(cfg.output).resolve(), branches_of(cfg)
    with alone(output):
        leaves = cfg.schedule.get("branches", False)
        points = [BranchPoints(branches, cfg.flops_budget)] if leaves else []
        train_run(copy.deepcopy(cfg), output, points)
        for branch in branches:
            if not branch.done:
                begin_branch(branch)
                with alone(branch.output):
                    train_run(branch.config(cfg), output)
    if branches:
        print_branches(output, cfg.schedule)


def alone(output: Path) -> AbstractContextManager[None]:
    """Lock an output folder; the first rank holds the lock for all."""
    return output_locked(output, "run", file=LOCK_FILE) if is_first() else nullcontext()


def train_run(cfg: DictConfig, home: Path, more: Sequence[Callback] = ()) -> None:
    """Train one run, or one branch.

    Args:
        cfg: Its config.
        home: The folder to name in the command that goes on: for a branch, its trunk's.
        more: Callbacks beside the config's.
    """
    output = Path(cfg.output).resolve()
    resume = find_resume(cfg, output / "checkpoints")
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    module, data = build(cfg)
    callbacks = in_order([*(instantiate(c) for c in cfg.callbacks.values() if c), *more])
    start = check_fits(module, data, callbacks, resume) if resume else BEGINNING
    options, backend, precision = split(cfg.trainer)
    trainer: Trainer = instantiate(
        options,
        default_root_dir=str(output),
        callbacks=[one_start := OneStart(start, output), *callbacks],
        plugins=[AtomicCheckpointIO(), *precision],
    )
    if backend is not None:
        compile_module(module, trainer, backend)
    # When all parts are made. Even to open it, a new store must have one process alone.
    logger = reach_logger(cfg, output, home, module, data) if is_first() else None
    trainer.loggers = [logger] if logger is not None else []
    warn_of_milestones(module, cfg.milestones)
    if logger is not None and resume and (output / CONFIG).exists():
        resumed = Resumed(cfg, output, home, data, logger, start[0])
        callbacks_of(trainer).append(resumed)  # the last that is asked
    elif logger is not None:
        write_config(output, cfg)
    if is_launched(trainer):
        die_with_parent(signal.SIGKILL)  # the exchange that waits for it may wait for long
    with taking(resume, one_start):
        number = fit(trainer, module, data, resume)
    if is_first() and not (output / CONFIG).exists():
        raise InputError(
            f"output={output}: the folder was deleted or moved while the run trained; what was "
            "saved before is not there"
        )
    if number:
        if logger is not None:
            logger.set_status("KILLED")
        folder = quoted(setting("output", home))
        say(f"stopped by {SIGNALS[number]}; to go on: ckpt_path=last {folder}")
        sys.exit(status_of_stop(trainer, number))
    if logger is not None and home == output:
        print_end(trainer, output, logger)


@contextmanager
def taking(resume: Path | None, start: OneStart) -> Iterator[None]:
    """Name the checkpoint where anything is raised before all of it has been taken."""
    try:
        yield
    except FullDiskError as error:
        raise FullDiskError(error.path, error.why, "go on with ckpt_path=last") from None
    except InputError:
        raise
    except Exception as error:
        if resume is None or start.restored or isinstance(error, OUT_OF_MEMORY):
            raise
        with reading(resume, "go on from an earlier one with ckpt_path="):
            raise error


def warn_of_milestones(module: PolicyModule, milestones: Sequence[float]) -> None:
    """Milestones below a decaying schedule's end are of a rate that has not decayed."""
    schedule = module.schedule
    if schedule.branches:
        return
    cost = module.costs_per_frame[schedule.convention] if schedule.unit == "frames" else 1.0
    if schedule.decays and any(milestone < schedule.end * cost for milestone in milestones):
        say(
            f"milestones below the end of schedule={schedule.decay}, {schedule.end:.4g} "
            f"{schedule.unit}, are measured before the rate has decayed: for the best at each "
            "budget, give schedule=cooldown, or each a run of its own"
        )
