"""Builds what a training config describes: data, policy, optimiser and module."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from lightning.fabric.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from agent_scaling.config.beside import conf
from agent_scaling.data.run_data import RunData
from agent_scaling.policies.checkpoints.files import write_checkpoint
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import take_actions
from agent_scaling.runtime.terminal import is_first, say
from agent_scaling.training.device.compilation import split
from agent_scaling.training.modules.base import PolicyModule
from agent_scaling.training.optim.optimizer import OptimizerFactory

UNSAID = (None, "auto", "ddp")
"""Strategies for which Lightning takes DDP where there are several ranks."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes as :func:`~agent_scaling.policies.checkpoints.files.write_checkpoint` does.

    (A temporary file in another file system, as Lightning writes it, is copied at the end, and a
    kill meanwhile tears the target.)
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save; raises :class:`InputError` where the disk is full or not writable."""
        write_checkpoint(checkpoint, path)


def quiet() -> None:
    """Leave out what Lightning and MLflow say that no user can act on."""
    for name in ("lightning.pytorch", "mlflow", "alembic", "nle"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    # Norms under autocast: bfloat16 in, float32 weights.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def build(cfg: DictConfig) -> tuple[PolicyModule, RunData]:
    """Build the module and its data; raises :class:`InputError` where they do not fit."""
    data: RunData = instantiate(cfg.data)
    take_actions(cfg.policy, data)
    policy: Policy = instantiate(cfg.policy)
    policy.check_data(data.observations, data.num_actions)
    policy.game = data.game
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
    module: PolicyModule = make_module(policy, optimizer, instantiate(cfg.schedule))
    module.check_data(data)
    return module, data


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A config as plain values, with its references resolved."""
    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))


def choose_strategy(trainer: DictConfig) -> None:
    """Write the strategy of ``trainer=ddp`` into a config of several ranks that names none.

    Lightning's own DDP ends in an error at the second step, because cloning leaves the baseline's
    parameters without gradients.

    Args:
        trainer: The config of Lightning's Trainer.
    """
    strategy = trainer.get("strategy")
    one = trainer.get("devices", 1) in (1, "1") and trainer.get("num_nodes", 1) == 1
    if OmegaConf.is_config(strategy) or strategy not in UNSAID or one:
        return
    if instantiate(split(trainer)[0]).world_size > 1:
        OmegaConf.set_struct(trainer, False)
        ddp = OmegaConf.load(str(conf() / "trainer" / "ddp.yaml"))
        trainer.strategy = OmegaConf.select(ddp, "strategy")
        if is_first():
            say("several ranks: their gradients are averaged as with trainer=ddp")
