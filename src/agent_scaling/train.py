"""The ``train`` verb: instantiate the parts, resume if asked, hand over to the Trainer."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack, cast

import lightning
import torch
from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from agent_scaling.checkpoint import error_line, write_checkpoint
from agent_scaling.config import flatten
from agent_scaling.errors import InputError
from agent_scaling.files import write_file
from agent_scaling.heap import keep_memory
from agent_scaling.optim import OptimizerFactory
from agent_scaling.orphans import die_with_parent
from agent_scaling.policy import Policy
from agent_scaling.resume import BEGINNING, OneStart, check_fits, find_resume
from agent_scaling.run_card import NOTE, data_inputs, description, run_name, run_tags
from agent_scaling.say import is_first, say
from agent_scaling.schedules import Schedule
from agent_scaling.sizes import take_actions
from agent_scaling.summary import print_end
from agent_scaling.tracked_run import STORE_ERRORS
from agent_scaling.tracking import OUTBOX_FILE, RUN_ID_FILE, BufferedMLFlowLogger
from agent_scaling.train_keys import TrainKeys, check_callbacks

SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
"""What ends a run between two steps, and what its user calls it."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes as :func:`~agent_scaling.checkpoint.write_checkpoint` does.

    (A temporary file in another file system, as Lightning writes it, is copied at the end, and a
    kill meanwhile tears the target.)
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save; raises :class:`InputError` where the disk is full or not writable."""
        write_checkpoint(checkpoint, path)


def train(**config: Unpack[TrainKeys]) -> None:
    """Train what the config describes into ``output``.

    It exits with 143 after SIGTERM, which schedulers take for "run me again", with 130 after
    Ctrl-C.

    Raises:
        InputError: The output folder holds a run that was not asked to go on, is in use or not
            writable, or the checkpoint does not fit the config.
    """
    cfg = OmegaConf.create(dict(config))
    check_callbacks(cfg)
    quiet()
    keep_memory()
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    output = Path(cfg.output).resolve()
    with locked(output):
        resume = find_resume(cfg, output / "checkpoints")
        lightning.seed_everything(cfg.seed, workers=True, verbose=False)
        module, data = build(cfg)
        start = check_fits(module, resume) if resume else BEGINNING
        callbacks = [instantiate(c) for c in cfg.callbacks.values() if c]
        trainer: Trainer = instantiate(
            cfg.trainer,
            default_root_dir=str(output),
            callbacks=[OneStart(start, output), *callbacks],
            plugins=[AtomicCheckpointIO()],
        )
        # When all parts are made. Even to open it, a new store must have one process alone.
        logger = reach_logger(cfg, output, module, data) if is_first() else None
        trainer.loggers = [logger] if logger is not None else []
        warn_of_milestones(module, cfg.milestones)
        if is_first():
            write_file(output / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        if is_launched(trainer):
            die_with_parent(signal.SIGKILL)  # the exchange that waits for it may wait for long
        if number := fit(trainer, module, data, resume):
            if logger is not None:
                logger.set_status("KILLED")
            say(f"stopped by {SIGNALS[number]}; to go on: ckpt_path=last output={output}")
            sys.exit(status_of_stop(trainer, number))
        if logger is not None:
            print_end(trainer, output, logger)


def fit(
    trainer: Trainer, module: LightningModule, data: LightningDataModule, resume: Path | None
) -> signal.Signals | None:
    """Train; the signal that ended it, if one did."""
    try:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except SIGTERMException:  # before the first step, Lightning's own handler is in force
        return signal.SIGTERM
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's way to end it, at once
            return signal.SIGINT
        raise
    return stopped_by(trainer)


def stopped_by(trainer: Trainer) -> signal.Signals | None:
    """The signal for which a callback stopped the run; None: it was done, or is under way."""
    found = (getattr(callback, "stopped_by", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return next(filter(None, found), None)


def preempted(trainer: Trainer) -> bool:
    """Whether a callback stopped the run for a signal, not because it was done."""
    return stopped_by(trainer) is not None


def status_of_stop(trainer: Trainer, number: signal.Signals) -> int:
    """The exit status of a run that was stopped, once its first rank has written everything:
    launchers kill the other ranks as soon as one has ended with a status."""
    if not trainer.interrupted:  # all ranks have come here
        trainer.strategy.barrier()
    # Lightning's launcher is rank 0 itself, and would kill itself too.
    return 0 if is_launched(trainer) else 128 + number


def is_launched(trainer: Trainer) -> bool:
    """Whether this is a rank that Lightning's launcher, the machine's first rank, has started."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and environment.local_rank() > 0


def quiet() -> None:
    """Leave out what Lightning and MLflow say that no user can act on."""
    for name in ("lightning.pytorch", "mlflow", "alembic", "nle"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def build(cfg: DictConfig) -> tuple[LightningModule, LightningDataModule]:
    """The module and its data."""
    data: LightningDataModule = instantiate(cfg.data)
    take_actions(cfg.policy, data)
    policy: Policy = instantiate(cfg.policy)
    shown = getattr(data, "observations", policy.observations)
    policy.check_data(shown, getattr(data, "num_actions", None))
    policy.game = getattr(data, "game", None) or policy.game
    # A policy that was loaded knows its own config; one that was built here is what it says.
    policy.config = policy.config or plain(cfg.policy)
    optimizer: OptimizerFactory = instantiate(cfg.optimizer)
    if policy.training:  # one that was loaded is in evaluation mode: its weights stay
        optimizer.initialise(policy)
    policy.train()
    # What `policy.params` was solved to is on the record: in config.yaml and MLflow.
    cfg.policy.update({k: v for k, v in policy.config.items() if k in ("encoder", "core")})
    # Partial: as an argument of Hydra's own, a schedule would become a config again.
    make_module = instantiate(cfg.module, _partial_=True)
    return make_module(policy, optimizer, instantiate(cfg.schedule)), data


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A config as plain values, with its references resolved."""
    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))


def reach_logger(cfg: DictConfig, output: Path, module: Any, data: Any) -> BufferedMLFlowLogger:
    """As :func:`make_logger`; raises :class:`InputError` where MLflow will not take the run at
    another time, either."""
    try:
        return make_logger(cfg, output, module, data)
    except STORE_ERRORS as error:
        raise InputError(
            f"logger.tracking_uri={cfg.logger.tracking_uri}: MLflow cannot begin or find the run "
            f"({error_line(error)}); start its server, or give another store"
        ) from error


def make_logger(cfg: DictConfig, output: Path, module: Any, data: Any) -> BufferedMLFlowLogger:
    """The logger, on the MLflow run that this output folder began, if it did."""
    remembered = output / RUN_ID_FILE
    about = (module.policy, cfg.flops_budget, cfg.seed)
    logger: BufferedMLFlowLogger = instantiate(
        cfg.logger,
        run_id=remembered.read_text().strip() if remembered.exists() else None,
        run_name=cfg.logger.run_name or run_name(cfg.tags.study, *about),
        outbox=output / OUTBOX_FILE,
        remember=remembered,
    )
    if logger.begun:
        logger.take_up()
        return logger
    facts = flatten(plain(cfg))
    facts["policy.num_params"] = module.policy.num_params
    facts["policy.flops_per_frame"] = module.flops_per_frame
    facts |= {f"data.{name}": value for name, value in data.facts.items()}
    tags = flatten(plain(cfg.tags))  # first on the run's page, and they win
    note = description(module, data, cfg.flops_budget, output)
    tags = {**tags, **run_tags(*about), NOTE: note, **tags}
    keys = ("data.shards", "data.demonstrations.shards")
    shards = next(filter(None, (OmegaConf.select(cfg, key) for key in keys)), None)
    logger.begin(facts, tags, data_inputs(shards, data.facts))
    return logger


def warn_of_milestones(module: Any, milestones: Sequence[float]) -> None:
    """Milestones below a decaying schedule's end are of a rate that has not decayed."""
    schedule: Schedule = module.schedule
    cost = module.costs_per_frame[schedule.convention] if schedule.unit == "frames" else 1.0
    if schedule.decays and any(milestone < schedule.end * cost for milestone in milestones):
        say(
            f"milestones below the end of schedule={schedule.decay}, {schedule.end:.4g} "
            f"{schedule.unit}, are measured before the rate has decayed: for the best at each "
            "budget, give each a run of its own"
        )


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold the output folder: a second run on it is refused, and a dead one leaves no trace."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = os.open(output / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); set output=") from error
    try:
        if is_first():
            take(lock, output)
        yield
    finally:
        os.close(lock)


def take(lock: int, output: Path) -> None:
    """Lock a file; raises :class:`InputError` where a run has, or the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{output}: another run is writing there; set output=") from None
    except OSError as error:
        raise InputError(f"{output}: cannot be locked ({error.strerror}); set output=") from None
