"""The cost of one layer per frame: the unit in which parts of a policy report their FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["convolution", "linear", "lookup", "lstm", "attention", "scan"]


@dataclass(frozen=True)
class LayerCost:
    """Forward cost of one layer for one frame."""

    name: str
    kind: Kind
    flops: int
    """Multiply-add = 2; biases, norms, nonlinearities and look-ups cost 0."""
    dense_flops: int = 0
    """For a look-up: what the same layer costs where it is run as a product with one-hot rows."""
    bias_flops: int = 0
    """For an LSTM: the 4·h that the paper's release adds per layer."""
    input_flops: int | None = None
    """For a convolution with strides: what it would cost at its input's size."""


def conv2d_cost(
    name: str,
    channels: tuple[int, int],
    kernel: int,
    out_size: tuple[int, int],
    in_size: tuple[int, int] | None = None,
) -> LayerCost:
    """2·k²·c_in·c_out·h_out·w_out; ``in_size`` where the published counters charge that instead."""
    per_cell = 2 * kernel**2 * channels[0] * channels[1]
    at_input = None if in_size is None else per_cell * in_size[0] * in_size[1]
    flops = per_cell * out_size[0] * out_size[1]
    return LayerCost(name, "convolution", flops, input_flops=at_input)


def linear_cost(name: str, features_in: int, features_out: int) -> LayerCost:
    """Cost of a linear layer: 2·in·out."""
    return LayerCost(name, "linear", 2 * features_in * features_out)
