"""Parts of a network that parameters belong to: optimiser, rate and decay follow from them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from agent_scaling.policies.policy import Policy

Part = Literal["readout", "embeddings", "hidden", "vectors"]
PARTS: tuple[Part, ...] = get_args(Part)

MATRICES = (nn.Linear, _ConvNd, nn.LSTM)
"""Modules whose weights are [out, in, …]; other tensors of two axes are look-up tables."""
HEADS = ("policy.weight", "baseline.weight")


def is_matrix(owner: nn.Module, parameter: Tensor) -> bool:
    """True for a matrix that multiplies activations: no bias, norm, embedding or table."""
    return isinstance(owner, MATRICES) and parameter.ndim >= 2


def part_of(policy: Policy, name: str) -> Part:
    """The part that the parameter called ``name`` belongs to, by its kind and not by its shape.

    ``readout``: the heads' matrices; ``embeddings``: tables, and layers that read raw inputs;
    ``hidden``: all other matrices and kernels; ``vectors``: biases, gains, a number per feature.
    """
    path = name.rpartition(".")[0]
    parameter = policy.get_parameter(name)
    if name in HEADS:
        return "readout"
    if parameter.ndim < 2 or name in per_feature(policy):
        return "vectors"
    matrix = is_matrix(policy.get_submodule(path), parameter)
    return "hidden" if matrix and path not in first_layers(policy) else "embeddings"


def first_layers(policy: Policy) -> frozenset[str]:
    """Paths of the layers that read raw inputs, as the encoder names them."""
    return frozenset(f"encoder.{name}" for name in getattr(policy.encoder, "first_layers", ()))


def per_feature(policy: Policy) -> frozenset[str]:
    """Names of the parameters that modules call ``per_feature``: they hold one number (or a fixed
    few) for each feature, and the module draws their initial values alike at all widths."""
    found: list[str] = []
    for path, module in policy.named_modules():
        names: Any = getattr(module, "per_feature", ())
        found += [f"{path}.{name}" for name in names]
    return frozenset(found)
