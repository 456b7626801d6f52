"""The top-level keys of ``train``, and a check of the callbacks that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from lightning import Trainer
from omegaconf import DictConfig
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from agent_scaling.config.check import checked, hints_of
from agent_scaling.runtime.errors import InputError


class TrainKeys(TypedDict):
    """Types of the keys in ``conf/train.yaml`` and its groups."""

    seed: NonNegativeInt
    threads: PositiveInt | None
    flops_budget: PositiveFloat
    milestones: Sequence[float]
    ckpt_path: str | None
    tags: Mapping[str, Any]
    output: str
    data: Any
    policy: Any
    module: Any
    optimizer: Any
    schedule: Any
    trainer: Any
    logger: Any
    callbacks: Mapping[str, Any]


LEAST = {"accumulate_grad_batches": 1, "gradient_clip_val": 0, "num_nodes": 1}
"""Keys of ``trainer`` that Lightning takes any number for, with the least that makes sense."""


def check_trainer(cfg: DictConfig) -> None:
    """Refuse numbers of Lightning's Trainer that end a run in its midst or train nothing.

    Raises:
        InputError: A number is below its least.
    """
    hints = hints_of(Trainer)
    for name, least in LEAST.items():
        value = cfg.trainer.get(name)
        if value is None and name in cfg.trainer:
            checked(f"trainer.{name}", value, hints[name])
        if isinstance(value, int | float) and not value >= least:
            raise InputError(f"trainer.{name}={value}: must be at least {least}")


def check_callbacks(cfg: DictConfig) -> None:
    """Refuse a callback without a ``_target_``, and a run that nothing would end.

    Raises:
        InputError: A key of ``callbacks`` is no callback, or no key limits the run.
    """
    for name, part in cfg.callbacks.items():
        if part is not None and "_target_" not in (part if isinstance(part, DictConfig) else ()):
            raise InputError(
                f"callbacks.{name}={part}: not a callback; callbacks=default has all of them, "
                f"and callbacks.{name}=null removes this one"
            )
    flops = cfg.callbacks.get("flops")
    ends = [flops and flops.get("budget", True), cfg.trainer.get("max_time")]
    if not any(ends) and max(cfg.trainer.get(k) or 0 for k in ("max_steps", "max_epochs")) <= 0:
        raise InputError(
            "callbacks.flops: without it nothing ends the run; keep it and its budget, or set "
            "trainer.max_steps"
        )
