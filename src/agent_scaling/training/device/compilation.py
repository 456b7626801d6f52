"""``trainer.compile``: policy and loss by ``torch.compile``, each graph with static shapes."""

from __future__ import annotations

from lightning import Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import ModelParallelStrategy
from omegaconf import DictConfig, open_dict
from torch.nn.modules.batchnorm import _BatchNorm

from agent_scaling.runtime.errors import InputError
from agent_scaling.training.device.precision import take_precision
from agent_scaling.training.modules.base import PolicyModule

KEY = "compile"
BACKENDS = ("inductor", "aot_eager", "eager", "cudagraphs")
"""Backends of ``torch.compile``; ``trainer.compile=true`` is the first."""


def split(trainer: DictConfig) -> tuple[DictConfig, str | None, list[Precision]]:
    """Return the config of Lightning's own Trainer, and what it does not know.

    Returns:
        The config, the backend that ``compile`` names, and the plugins for the precision.

    Raises:
        InputError: ``trainer.compile`` is neither true nor false, nor a backend; or the precision
            is ``16-true``.
    """
    own = trainer.copy()
    with open_dict(own):
        asked = own.pop(KEY, False)
    plugins = take_precision(own)
    if asked is True:
        return own, BACKENDS[0], plugins
    if not asked:
        return own, None, plugins
    if asked not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise InputError(f"trainer.compile={asked}: must be true or false, or one of {known}")
    return own, str(asked), plugins


def compile_module(module: PolicyModule, trainer: Trainer, backend: str) -> None:
    """Compile a module's policy and loss, in place; weights and their names stay.

    Raises:
        InputError: The policy will be sharded over ranks, or its encoder has BatchNorm and
            ``checkpoint``.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy):
        raise InputError("trainer.compile: not with trainer=fsdp; set it to false")
    encoder = module.policy.get_submodule("encoder")
    norms = any(isinstance(part, _BatchNorm) for part in encoder.modules())
    if norms and getattr(encoder, "checkpoint", False):
        raise InputError(
            "trainer.compile and policy.encoder.checkpoint=true: the compiler cannot compute "
            "BatchNorm again; set one of them to false"
        )
    module.compile_parts(backend)
