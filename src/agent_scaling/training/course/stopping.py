"""The end of a run: whether a signal stopped it, and its exit status."""

from __future__ import annotations

import signal
from pathlib import Path

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from agent_scaling.training.hooks import StopsRuns, find

SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
"""Signals that end a run between two steps, with the names that its user knows."""


def fit(
    trainer: Trainer, module: LightningModule, data: LightningDataModule, resume: Path | None
) -> signal.Signals | None:
    """Train, and return the signal that ended the training, if one did."""
    try:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except SIGTERMException:  # before the first step, Lightning's own handler is in force
        return signal.SIGTERM
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into an exit
            return signal.SIGINT
        raise
    return stopped_by(trainer)


def stopped_by(trainer: Trainer) -> signal.Signals | None:
    """The signal on which a callback stopped the run; None if it finished, or is under way."""
    stopping = find(trainer, StopsRuns)
    return stopping.stopped_by if stopping else None


def preempted(trainer: Trainer) -> bool:
    """True where a callback stopped the run on a signal, before its end."""
    return stopped_by(trainer) is not None


def status_of_stop(trainer: Trainer, number: signal.Signals) -> int:
    """Wait until the first rank has written everything; return the status of a stopped run.

    Launchers kill the other ranks as soon as one exits with a non-zero status.
    """
    if not trainer.interrupted:  # all ranks have come here
        trainer.strategy.barrier()
    # Lightning's launcher is rank 0 itself, and would kill itself too.
    return 0 if is_launched(trainer) else 128 + number


def is_launched(trainer: Trainer) -> bool:
    """True on a rank that Lightning's launcher, the machine's first rank, has started."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and environment.local_rank() > 0
