"""muP: scales initial values and learning rates by width, so that one rate suits all widths.

This is the maximal update parametrisation for Adam (Yang et al., *Tensor Programs V*, arXiv
2203.03466), in the form of Table 3, which needs no multipliers in the network. The readout's
1/width (Table 8) goes into its initial values and its rate, which is equivalent by Lemma J.1. So
the network is the same with and without muP, and so are its checkpoints. What the paper leaves to
tuning, how fast the parts learn beside each other, is a factor of each part's rate at all widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.roles import MATRICES, PARTS, part_of, per_feature

Role = Literal["vector", "input", "hidden", "output"]

HEAD_TOLERANCE = 2.0
"""Largest ratio of head widths to the base's. Attention divides by √(head width), which holds while
wider policies have more heads of the same width; for wider heads, Definition 4.1 asks for 1/width.
"""


@dataclass(frozen=True)
class Scaling:
    """muP's factors of one parameter, relative to the same policy at base widths."""

    role: Role
    """``vector``: a bias or gain; ``input``: from a fixed number of inputs to a width, or a table;
    ``hidden``: from width to width; ``output``: from a width to a fixed number."""
    lr: float = 1.0
    """Multiplies the learning rate."""
    init: float | Tensor = 1.0
    """Multiplies the initial values that the layer itself has drawn."""
    columns: Tensor | None = None
    """Multiplies each column's steps, where a layer reads vectors that grow differently with width.
    """


def scalings(
    policy: Policy, base: Policy, multipliers: Mapping[str, float] | None = None
) -> dict[str, Scaling]:
    """Return muP's factors of each parameter of ``policy``; ``base`` may be on the meta device.

    Args:
        policy: The policy to train.
        base: The policy that the rate was tuned on.
        multipliers: Factors of the rate by part
            (:func:`~agent_scaling.training.optim.roles.part_of`), 1 where absent.

    Raises:
        InputError: ``base`` lacks a parameter, or its attention heads are much narrower or wider.
    """
    _check_structure(policy, base)
    joins, own = _joins(policy, base), per_feature(policy)
    found: dict[str, Scaling] = {}
    for name, parameter in policy.named_parameters():
        path = name.rpartition(".")[0]
        owner, base_owner = policy.get_submodule(path), base.get_submodule(path)
        drawn = _drawn(owner, base_owner)
        if name in own:
            scaling = Scaling("vector")
        elif name in joins:
            scaling = _joined(joins[name], drawn)
        else:
            base_shape = base.get_parameter(name).shape
            scaling = _scaling(owner, parameter.shape, base_shape, drawn)
        times = (multipliers or {}).get(part_of(policy, name), 1.0)
        found[name] = replace(scaling, lr=scaling.lr * times)
    return found


def check_multipliers(multipliers: Mapping[str, float]) -> None:
    """Check the names and values of the parts' factors.

    Raises:
        InputError: A part is unknown, or its factor is not above 0.
    """
    known = [part for part in PARTS if part != "vectors"]
    for part, times in multipliers.items():
        if part not in known:
            raise InputError(f"optimizer.multipliers.{part}: use {', '.join(known)}")
        if times <= 0:
            raise InputError(f"optimizer.multipliers.{part}={times:g}: must be above 0")


def rescale(policy: Policy, found: dict[str, Scaling]) -> None:
    """Scale freshly drawn initial values to muP's, in place."""
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            parameter.mul_(found[name].init)


def scale_columns(optimizer: Optimizer, columns: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Multiply each step that ``optimizer`` takes on a matrix by factors of its columns.

    A learning rate cannot do this, because it applies to a whole parameter; nor can scaling the
    gradient, because Adam's steps do not depend on the gradient's size. Decoupled weight decay is
    no part of the step: all columns decay alike.

    Args:
        optimizer: The optimiser of the matrices.
        columns: Pairs of a matrix [out, in] and its factors [in].
    """
    if not columns:
        return
    before: list[Tensor] = []

    def keep(*_: Any) -> None:
        decays: dict[int, float] = {}
        for group in optimizer.param_groups:  # loading a state replaces them
            decoupled = group.get("decoupled_weight_decay", False)
            decay = group["lr"] * group["weight_decay"] if decoupled else 0.0
            decays |= dict.fromkeys(map(id, group["params"]), decay)
        before[:] = [matrix.detach() * (1 - decays[id(matrix)]) for matrix, _ in columns]

    def scale(*_: Any) -> None:
        for (matrix, factors), old in zip(columns, before, strict=True):
            matrix.detach().sub_(old).mul_(factors.to(matrix)).add_(old)

    optimizer.register_step_pre_hook(keep)
    optimizer.register_step_post_hook(scale)


def _joins(policy: Policy, base: Policy) -> dict[str, Tensor]:
    """Growth of each input column, by weight, for layers whose inputs grow differently."""
    found: dict[str, Tensor] = {}
    for path, module in policy.named_modules():
        mine: Any = getattr(module, "joins", {})
        theirs: Any = getattr(base.get_submodule(path), "joins", {}) if mine else {}
        for layer, widths in mine.items():
            pairs = [(a, b) for a, b in zip(widths, theirs[layer], strict=True) if a]
            if not all(b for _, b in pairs):
                raise InputError(f"optimizer.base: {path}.{layer} of its policy lacks an input")
            if len({a / b for a, b in pairs}) > 1:
                growth = [torch.full((a,), a / b) for a, b in pairs]
                found[f"{path}.{layer}.weight"] = torch.cat(growth)
    return found


def _joined(growth: Tensor, drawn: float) -> Scaling:
    """Scale each column like the matrix that reads its vector alone."""
    return Scaling("hidden", init=growth**-0.5 / drawn, columns=1 / growth)


def _scaling(owner: nn.Module, shape: torch.Size, base: torch.Size, drawn: float) -> Scaling:
    """Apply the paper's Table 3; ``drawn`` is the layer's own scale of its initial values."""
    if len(shape) < 2:
        return Scaling("vector", init=1 / drawn)
    fan_out, fan_in = shape[0] / base[0], shape[1] / base[1]
    if fan_in == 1 or not isinstance(owner, MATRICES):  # a frame reads few of a table's rows
        return Scaling("input", init=1 / drawn)
    if fan_out == 1:
        return Scaling("output", lr=1 / fan_in, init=1 / fan_in / drawn)
    return Scaling("hidden", lr=1 / fan_in, init=fan_in**-0.5 / drawn)


def _drawn(owner: nn.Module, base: nn.Module) -> float:
    """Ratio of the standard deviation of the layer's initial values to the base's, with biases.

    torch draws linear layers and convolutions from ±1/√fan_in and an LSTM from ±1/√width. Tables,
    norms and the parameters that the cores draw themselves do not depend on widths.
    """
    if isinstance(owner, nn.LSTM):
        assert isinstance(base, nn.LSTM)
        return float((owner.hidden_size / base.hidden_size) ** -0.5)
    if isinstance(owner, MATRICES):
        weight, base_weight = owner.get_parameter("weight"), base.get_parameter("weight")
        return float((weight.shape[1] / base_weight.shape[1]) ** -0.5)
    return 1.0


def _check_structure(policy: Policy, base: Policy) -> None:
    shapes = {name: parameter.shape for name, parameter in base.named_parameters()}
    for name, parameter in policy.named_parameters():
        if name not in shapes or shapes[name][2:] != parameter.shape[2:]:
            raise InputError(
                f"optimizer.base: its policy has no {name} like the one to train; "
                "give base widths that differ from policy= in widths alone"
            )
    for name, module in policy.named_modules():
        after: Any = getattr(module, "head_width", None)
        if after is None:
            continue
        before: Any = getattr(base.get_submodule(name), "head_width", after)
        if not 1 / HEAD_TOLERANCE <= after / before <= HEAD_TOLERANCE:
            raise InputError(
                f"optimizer.mup: attention heads have {after} features, and {before} at base "
                f"widths: muP holds for heads of one width; set policy.core.head_dim={before}"
            )
