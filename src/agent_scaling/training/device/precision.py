"""``trainer.precision=bf16-true``: steps in bfloat16 from weights that stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.plugins.precision import Precision
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sharding import is_sharded
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.modules.base import PolicyModule

HALF: Literal["bf16-true"] = "bf16-true"
WITHOUT_SCALE = "16-true"


class HalfWeights(Precision):
    """Forward and backward passes with bfloat16 copies of the weights, made anew for each window.

    The module's parameters stay float32, and so do their gradients, the optimiser's moments, the
    average of the weights and checkpoints. Weights that are bfloat16 themselves lose each step that
    is below 1/256 of them. (Lightning's own ``bf16-true`` has those, and converts buffers, too.)

    BatchNorm keeps float32: its statistics are of one type with its weights. A sharded policy is
    left alone, because FSDP makes the copies while it gathers the parameters
    (:func:`~agent_scaling.policies.sharding.shard_policy`).
    """

    precision: Literal["bf16-true"] = HALF

    def __init__(self) -> None:
        self._policy: nn.Module | None = None
        self._own: list[tuple[nn.Module, str, nn.Parameter]] = []

    @override
    def convert_module(self, module: nn.Module) -> nn.Module:
        """Remember the module; nothing is converted."""
        assert isinstance(module, PolicyModule)
        self._policy = module.policy
        return module

    @override
    @contextmanager
    def train_step_context(self) -> Iterator[None]:
        """Put the copies in place; they stay until the backward pass is over.

        It computes pieces of the forward pass again (``policy.recompute``, long attention).
        """
        assert isinstance(self._policy, Policy)
        if not is_sharded(self._policy):
            self._own = halve(self._policy)
        try:
            yield
        except BaseException:
            self._restore()
            raise

    @override
    def backward(self, tensor: Tensor, model: LightningModule, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Run the backward pass, whose gradients reach the float32 weights; put these back."""
        try:
            super().backward(tensor, model, *args, **kwargs)
        finally:
            self._restore()

    def _restore(self) -> None:
        for module, name, parameter in self._own:
            module._parameters[name] = parameter
        self._own = []


def halve(policy: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Replace the parameters of a policy by bfloat16 copies through which gradients flow.

    Returns:
        What was replaced: module, name, parameter. A parameter of several modules has one copy.
    """
    copies: dict[nn.Parameter, Tensor] = {}
    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in policy.modules():
        if isinstance(module, _BatchNorm):
            continue
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.is_floating_point():
                continue
            if parameter not in copies:
                copies[parameter] = parameter.to(torch.bfloat16)
            replaced.append((module, name, parameter))
    for module, name, parameter in replaced:
        module._parameters[name] = copies[parameter]  # type: ignore[assignment]
    return replaced


def take_precision(trainer: DictConfig) -> list[Precision]:
    """Take ``bf16-true`` out of the config of Lightning's Trainer, and return its plugin.

    Raises:
        InputError: ``16-true`` is asked for.
    """
    asked = str(trainer.get("precision"))
    if asked == WITHOUT_SCALE:
        raise InputError(
            "trainer.precision=16-true: float16 without a scale loses small gradients; use "
            "bf16-true, bf16-mixed or 16-mixed"
        )
    if asked != HALF:
        return []
    trainer.precision = None
    return [HalfWeights()]
