"""Optimisers: parameters in groups by learning rate and weight decay."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from agent_scaling.config.check import checked, hints_of
from agent_scaling.policies.checkpoints.load import refuse_nan
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import on_meta, solve
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.training.optim.mup import (
    Scaling,
    check_multipliers,
    rescale,
    scale_columns,
    scalings,
)
from agent_scaling.training.optim.roles import is_matrix

Group = dict[str, Any]


class OptimizerFactory:
    """Makes a policy's optimiser, and sets its learning rate.

    Args:
        kind: Class of the optimiser, e.g. ``torch.optim.Adam``.
        lr: Learning rate; with ``mup``, at base widths.
        weight_decay: Weight decay of matrices and convolutions; biases, norms, embeddings and
            tables have none.
        mup: Give widths other than the base's muP's initial values and rates
            (:mod:`agent_scaling.training.optim.mup`).
        base: The policy that ``lr`` was tuned on, as changes to the trained policy: ``params``
            sizes it as ``policy.params`` does, then ``encoder`` and ``core`` replace arguments.
        multipliers: With ``mup``, factors of ``lr`` at all widths by part: ``readout``,
            ``embeddings``, ``hidden``; 1 where absent.
        options: Further arguments of ``kind``.

    Raises:
        InputError: A rate is negative, ``mup`` has no base or is not derived for ``kind``, a
            multiplier is unknown or not above 0, or ``kind`` refuses one of ``options``.
    """

    derived: tuple[type[Optimizer], ...] = (Adam, AdamW)
    """Optimisers that muP's rates are derived for."""

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        lr: float,
        weight_decay: float = 0.0,
        mup: bool = False,
        base: Mapping[str, Any] | None = None,
        multipliers: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        if lr < 0 or weight_decay < 0:
            raise InputError(
                f"optimizer.lr={lr:g}, optimizer.weight_decay={weight_decay:g}: must be at least 0"
            )
        if mup and not base:
            raise InputError("optimizer.mup needs optimizer.base: the widths that lr was tuned on")
        if mup and not (isinstance(kind, type) and issubclass(kind, self.derived)):
            raise InputError(
                f"optimizer.mup=true: its rates by width are derived for Adam, and not for "
                f"{getattr(kind, '__name__', kind)}; use optimizer=adam or adamw, or "
                "optimizer.mup=false"
            )
        self.multipliers = dict(multipliers or {})
        check_multipliers(self.multipliers)
        self.kind, self.lr, self.weight_decay = kind, lr, weight_decay
        self.mup, self.base, self.options = mup, dict(base or {}), options
        self._check_options()

    def _check_options(self) -> None:
        """Check the options that ``kind`` takes, which is made when all else is."""
        hints = hints_of(self.kind)
        for name, value in self.options.items():
            if name in hints:
                checked(f"optimizer.{name}", value, hints[name])
        try:
            self.kind([torch.zeros(1, requires_grad=True)], lr=self.lr, **self.options)
        except (TypeError, ValueError, RuntimeError) as error:
            name = getattr(self.kind, "__name__", str(self.kind))
            raise InputError(
                f"optimizer: {name} refuses its options: {error_line(error)}"
            ) from error

    def initialise(self, policy: Policy) -> None:
        """Scale the initial values of a new policy; do not call it for a trained one."""
        if self.mup:
            rescale(policy, self._scalings(policy))

    def groups(self, policy: Policy) -> list[Group]:
        """Group parameters by ``lr_scale`` (of ``lr``) and ``weight_decay``, in the policy's order.

        torch's AdamW shrinks a weight by lr · weight_decay. Where muP lowers lr with the width, the
        decay is raised by the same factor, so that the product equals the base's.
        """
        found = self._scalings(policy) if self.mup else {}
        groups: dict[tuple[float, float], Group] = {}
        for name, parameter in policy.named_parameters():
            scale = found[name].lr if found else 1.0
            owner = policy.get_submodule(name.rpartition(".")[0])
            decay = self.weight_decay / scale if is_matrix(owner, parameter) else 0.0
            new: Group = {"params": [], "lr_scale": scale, "weight_decay": decay}
            groups.setdefault((scale, decay), new)["params"].append(parameter)
        return list(groups.values())

    def __call__(self, policy: Policy, fused: bool = False) -> Optimizer:
        """Make the optimiser of all parameters; ``fused``: in one kernel, if ``kind`` can."""
        options = dict(self.options)
        if fused and "fused" in inspect.signature(self.kind).parameters:
            options["fused"] = True
        optimizer = self.kind(self.groups(policy), lr=self.lr, **options)
        self.set_rate(optimizer, 1.0)
        if self.mup:
            scale_columns(optimizer, self.joined_columns(policy))
        return optimizer

    def joined_columns(self, policy: Policy) -> list[tuple[Tensor, Tensor]]:
        """Matrices that read vectors side by side, and the factors of their columns' steps."""
        found = self._scalings(policy).items()
        joined = [(name, scaling.columns) for name, scaling in found]
        return [(policy.get_parameter(name), c) for name, c in joined if c is not None]

    def set_rate(self, optimizer: Optimizer, fraction: float) -> None:
        """Set every group to ``fraction`` of its learning rate."""
        for group in optimizer.param_groups:
            group["lr"] = self.lr * group.get("lr_scale", 1.0) * fraction

    def check_saved(self, policy: Policy, saved: Mapping[str, Any], path: str | Path) -> None:
        """Check that an optimiser's saved state has the groups of this one.

        Raises:
            InputError: It has others, from another ``optimizer=``, weight decay, ``mup``, base or
                multipliers.
        """
        if kinds_of(self.groups(policy)) != kinds_of(saved["param_groups"]):
            raise InputError(
                f"{path}: trained with another optimizer=, weight_decay, mup, base or "
                "multipliers; resume with those"
            )
        refuse_nan(saved, "optimizer_states.0")
        states = dict(saved["state"])
        for own, group in zip(self.groups(policy), saved["param_groups"], strict=True):
            for parameter, key in zip(own["params"], group["params"], strict=True):
                check_moments(states.pop(key, {}), parameter, f"optimizer_states.0.state.{key}")
        if states:
            raise ValueError(f"optimizer_states.0.state.{next(iter(states))} is of no parameter")

    def check_sharded(self) -> None:
        """Refuse to optimise a policy whose parameters are shared out over ranks.

        Raises:
            InputError: muP's columns are to be scaled, which a share does not have.
        """
        if self.mup:
            raise InputError("optimizer.mup=true: not with trainer=fsdp; use trainer=ddp")

    def flops_per_step(self, policy: Policy) -> float:
        """FLOPs of one step beyond a few per parameter; budgets do not count them."""
        return 0.0

    def _scalings(self, policy: Policy) -> dict[str, Scaling]:
        config = dict(policy.config)
        if self.base.get("params") is not None:
            config = solve(config, self.base["params"])
        for part in ("encoder", "core"):
            config[part] = {**config[part], **(self.base.get(part) or {})}
        return scalings(policy, on_meta(config), self.multipliers)


def check_moments(state: object, parameter: Tensor, name: str) -> None:
    """Check that an optimiser's saved state is of that parameter.

    It may be factored, with an axis of one row or column, and count its steps.

    Raises:
        ValueError: It has another shape, or is no number.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"{name} is no state")
    for key, part in state.items():
        shape = tuple(part.shape) if isinstance(part, Tensor) else ()
        near = len(shape) == parameter.ndim and all(
            length in (1, own) for length, own in zip(shape, parameter.shape, strict=True)
        )
        if shape and not near:
            raise ValueError(
                f"{name}.{key} has shape {shape}, its parameter {tuple(parameter.shape)}"
            )
        if part is not None and not isinstance(part, Tensor | int | float):
            raise ValueError(f"{name}.{key} is no number")


def kinds_of(groups: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """The properties that tell groups of parameters apart, rates aside."""
    return [
        (len(g["params"]), g.get("lr_scale", 1.0), g.get("weight_decay", 0.0), g.get("rows"))
        for g in groups
    ]
