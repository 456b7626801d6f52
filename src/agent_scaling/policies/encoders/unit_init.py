"""The second release's other initial values: weights scaled to norms that no draw decides."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from agent_scaling.policies.encoders.lines import Bag


@torch.no_grad()
def unit_layers(modules: Iterable[nn.Module]) -> None:
    """Scale each row of linear layers and of look-ups to norm 1, and zero their biases.

    Rows are an output's weights: a look-up, which is stored the other way round, has them as
    columns. Of 1-d convolutions, the weights over input channels are scaled, per output and tap.
    """
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv1d):
            scale(module.weight, (1,))
            zero(module.bias)
        elif isinstance(module, Bag):
            scale(module.table, (0,))
            zero(module.bias)


@torch.no_grad()
def unit_filters(layer: nn.Conv2d, norm: float = 1.0) -> None:
    """Scale each filter of a 2-d convolution to ``norm``, and zero its biases."""
    scale(layer.weight, (1, 2, 3), norm)
    zero(layer.bias)


def scale(weight: Tensor, axes: tuple[int, ...], norm: float = 1.0) -> None:
    """Scale a weight in place to the L2 norm ``norm`` over ``axes``."""
    weight.mul_(norm / weight.square().sum(axes, keepdim=True).sqrt())


def zero(bias: Tensor | None) -> None:
    """Zero a bias, where there is one."""
    if bias is not None:
        bias.zero_()
