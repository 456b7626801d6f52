"""``optimizer=muon``: which parameters of a policy are Muon's, and which are Adam's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.muon import Muon, Rows, orthogonalise_flops
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
        mup: Give widths other than the base's muP's initial values, and Adam's part its rates. A
            matrix' rate stays: what an orthogonal step does to activations depends on no width.
        base: The policy that the rates were tuned on.
        multipliers: With ``mup``, factors of ``adam_lr`` for ``readout`` and ``embeddings``, 1
            where absent; ``hidden`` is of no use, because ``lr`` is that part's own.
        options: Further arguments of ``kind``.

    Raises:
        InputError: A rate is negative, ``mup`` has no base, or a multiplier is wrong.
    """

    derived = (Muon,)

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        lr: float,
        adam_lr: float,
        weight_decay: float = 0.0,
        mup: bool = False,
        base: Mapping[str, Any] | None = None,
        multipliers: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        if adam_lr < 0:
            raise InputError(f"optimizer.adam_lr={adam_lr:g}: must be at least 0")
        super().__init__(kind, lr, weight_decay, mup, base, multipliers, **options)
        self.adam_lr = adam_lr

    def groups(self, policy: Policy) -> list[Group]:
        """Muon's matrices with their ``rows``; Adam's parameters with and without decay."""
        muon: Group = {"params": [], "rows": [], "weight_decay": self.weight_decay}
        rest: dict[tuple[float, float], Group] = {}
        found = self._scalings(policy) if self.mup else {}
        for name, parameter in policy.named_parameters():
            path = name.rpartition(".")[0]
            owner = policy.get_submodule(path)
            matrix = is_matrix(owner, parameter)
            if part_of(policy, name) == "hidden":
                muon["params"].append(parameter)
                muon["rows"].append(list(rows_of(policy, path, parameter)))
                continue
            scale = found[name].lr if found else 1.0
            decay = self.weight_decay / scale if matrix else 0.0
            new: Group = {"params": [], "rows": None, "lr_scale": scale, "weight_decay": decay}
            rest.setdefault((scale, decay), new)["params"].append(parameter)
        return [group for group in (muon, *rest.values()) if group["params"]]

    def set_rate(self, optimizer: Optimizer, fraction: float) -> None:
        """Set every group to ``fraction`` of its learning rate."""
        for group in optimizer.param_groups:
            rate = self.adam_lr if group["rows"] is None else self.lr
            group["lr"] = fraction * rate * group.get("lr_scale", 1.0)

    def joined_columns(self, policy: Policy) -> list[tuple[Tensor, Tensor]]:
        """None: matrices that read vectors side by side are Muon's, whose steps are orthogonal."""
        return []

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
