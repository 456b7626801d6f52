"""``optimizer=muon``: which parameters of a policy are Muon's, and which are Adam's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.muon import Rows, orthogonalise_flops
from agent_scaling.training.optim.optimizer import Group, OptimizerFactory
from agent_scaling.training.optim.roles import is_matrix, part_of

GATES = 4  # of an LSTM, one below the other


class MuonFactory(OptimizerFactory):
    """Makes Muon for a policy: hidden matrices and kernels are Muon's, the rest is Adam's.

    The rest: embeddings, tables, biases, gains, heads, and layers that read raw inputs
    (``first_layers`` of an encoder). A module whose matrix holds several below each other says so
    (``joined_rows``); an LSTM's gates are known.

    Args:
        kind: :class:`~agent_scaling.training.optim.muon.Muon`.
        lr: Learning rate of the matrices.
        adam_lr: Learning rate of the rest.
        weight_decay: Of matrices and kernels, heads included, as a fraction of either rate.
        mup: Refused.
        base: Ignored.
        options: Further arguments of ``kind``.

    Raises:
        InputError: A rate is negative, or muP is asked for.
    """

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        lr: float,
        adam_lr: float,
        weight_decay: float = 0.0,
        mup: bool = False,
        base: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if mup:
            raise InputError(
                "optimizer.mup=true: its rates by width are derived for Adam, and Muon's steps "
                "have one size at all widths; use optimizer=adam, or optimizer.mup=false"
            )
        if adam_lr < 0:
            raise InputError(f"optimizer.adam_lr={adam_lr:g}: must be at least 0")
        super().__init__(kind, lr, weight_decay, **options)
        self.adam_lr = adam_lr

    def groups(self, policy: Policy) -> list[Group]:
        """Muon's matrices with their ``rows``; Adam's parameters with and without decay."""
        muon: Group = {"params": [], "rows": [], "weight_decay": self.weight_decay}
        rest: dict[float, Group] = {}
        for name, parameter in policy.named_parameters():
            path = name.rpartition(".")[0]
            owner = policy.get_submodule(path)
            matrix = is_matrix(owner, parameter)
            if part_of(policy, name) == "hidden":
                muon["params"].append(parameter)
                muon["rows"].append(list(rows_of(policy, path, parameter)))
                continue
            decay = self.weight_decay if matrix else 0.0
            new: Group = {"params": [], "rows": None, "weight_decay": decay}
            rest.setdefault(decay, new)["params"].append(parameter)
        return [group for group in (muon, *rest.values()) if group["params"]]

    def set_rate(self, optimizer: Optimizer, fraction: float) -> None:
        """Set every group to ``fraction`` of its learning rate."""
        for group in optimizer.param_groups:
            group["lr"] = fraction * (self.adam_lr if group["rows"] is None else self.lr)

    def check_sharded(self) -> None:
        """Refuse a policy whose parameters are shared out over ranks."""
        raise InputError(
            "optimizer=muon: not with trainer=fsdp, where a rank has a share of each matrix; "
            "use trainer=ddp, or optimizer=adam"
        )

    def flops_per_step(self, policy: Policy) -> float:
        """FLOPs of the iterations of one step; budgets do not count them."""
        iterations = self.options.get("iterations", 5)
        muon = next(g for g in [*self.groups(policy), {"rows": []}] if g["rows"] is not None)
        pairs = zip(muon.get("params", []), muon["rows"], strict=True)
        return float(
            sum(
                orthogonalise_flops(rows, math.prod(parameter.shape[1:]), iterations)
                for parameter, parts in pairs
                for rows in parts
            )
        )


def rows_of(policy: Policy, path: str, parameter: Tensor) -> Rows:
    """Rows of the matrices that a parameter of the module at ``path`` holds."""
    owner = policy.get_submodule(path)
    if isinstance(owner, nn.LSTM):
        return [parameter.shape[0] // GATES] * GATES
    above, _, name = path.rpartition(".")
    joined: Mapping[str, Rows] = getattr(policy.get_submodule(above), "joined_rows", {})
    return joined.get(name, [parameter.shape[0]])
