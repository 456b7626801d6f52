"""Muon: matrices take steps whose singular values are all near 1; the rest is Adam's.

Jordan et al. 2024, *Muon: an optimizer for hidden layers in neural networks*. torch's own takes 2-D
parameters alone and iterates in bfloat16, which costs a CPU without bfloat16 units three times the
step. Here matrices of one shape are iterated on together, in float32 where bfloat16 is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of an iteration x → a·x + b·x³ + c·x⁵ on singular values: from anywhere in
(0, 1], five of them lead into (0.68, 1.14)."""
TINY = 1e-7

Rows = Sequence[int]
"""Rows of each matrix that a parameter holds one below the other, e.g. an LSTM's four gates."""


def orthogonalise(matrices_KMN: Tensor, iterations: int = 5) -> Tensor:
    """Replace the singular values of each matrix with values near 1, by Newton–Schulz iterations.

    Args:
        matrices_KMN: K matrices of one shape.
        iterations: Of :data:`QUINTIC`.
    """
    a, b, c = QUINTIC
    wide = matrices_KMN.shape[1] <= matrices_KMN.shape[2]
    x: Tensor = matrices_KMN if wide else matrices_KMN.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x if wide else x.mT


def orthogonalise_flops(rows: int, columns: int, iterations: int = 5) -> int:
    """FLOPs of :func:`orthogonalise` for one matrix; multiply-add = 2."""
    short, long = sorted((rows, columns))
    return iterations * (4 * short**2 * long + 2 * short**3)


def iteration_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs with units for it, else float32: the iteration bears either."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    return torch.float32


class Muon(Optimizer):
    """Muon for groups that have ``rows``, Adam for the others.

    A matrix [out, in] moves by lr · √max(1, out / in) · orthogonalised momentum. A function of
    gradients alone: under DDP every rank takes the same step.

    Args:
        params: Groups; ``rows``: for each of its parameters the rows of its matrices; a kernel is
            the matrix [out, in · k · k].
        lr: Learning rate, of the group.
        weight_decay: Each step takes lr · weight_decay off a weight.
        momentum: Share of the momentum that a step keeps.
        nesterov: Look one step ahead along the momentum.
        iterations: Of Newton–Schulz.
        cautious: Decay a weight only where the step makes it smaller (arXiv 2510.12402).
        betas: Adam's.
        eps: Adam's.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        iterations: int = 5,
        cautious: bool = False,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        defaults |= {"nesterov": nesterov, "iterations": iterations, "cautious": cautious}
        super().__init__(params, {**defaults, "betas": tuple(betas), "eps": eps, "rows": None})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure`` computes gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moves = self._adam(group) if group["rows"] is None else self._muon(group)
            for parameter, step in moves:
                _decay(parameter, step, group)
                parameter.sub_(step)
        return loss

    def _adam(self, group: Mapping[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters and what is to be taken off them."""
        beta1, beta2 = group["betas"]
        for parameter in group["params"]:
            gradient, state = parameter.grad, self.state[parameter]
            if gradient is None:
                continue
            if not state:
                zeros = torch.zeros_like(parameter)
                state |= {"step": 0, "mean": zeros, "square": zeros.clone()}
            state["step"] += 1
            mean: Tensor = state["mean"].lerp_(gradient, 1 - beta1)
            square: Tensor = state["square"].mul_(beta2)
            square.addcmul_(gradient, gradient, value=1 - beta2)
            scale = (square / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
            rate = group["lr"] / (1 - beta1 ** state["step"])
            yield parameter, (mean / scale).mul_(rate)

    def _muon(self, group: Mapping[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters and what is to be taken off them; equal shapes are iterated on at once."""
        found: list[tuple[Tensor, list[Tensor]]] = []
        shapes: dict[tuple[int, int], list[Tensor]] = {}
        for parameter, rows in zip(group["params"], group["rows"], strict=True):
            if parameter.grad is None:
                continue
            matrices = torch.split(self._momentum(parameter, group).flatten(1), list(rows))
            found.append((parameter, list(matrices)))
            for matrix in matrices:
                shapes.setdefault(cast("tuple[int, int]", tuple(matrix.shape)), []).append(matrix)
        ready: dict[tuple[int, ...], Iterator[Tensor]] = {}
        for shape, equal in shapes.items():
            stacked = torch.stack(equal).to(iteration_dtype(equal[0].device))
            steps = orthogonalise(stacked, group["iterations"]).to(equal[0].dtype)
            steps *= group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
            ready[shape] = iter(steps.unbind())
        for parameter, parts in found:
            step = torch.cat([next(ready[tuple(part.shape)]) for part in parts])
            yield parameter, step.view(parameter.shape)

    def _momentum(self, parameter: Tensor, group: Mapping[str, Any]) -> Tensor:
        """The momentum with this step's gradient in it."""
        gradient, state = cast(Tensor, parameter.grad), self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum


def _decay(parameter: Tensor, step: Tensor, group: Mapping[str, Any]) -> None:
    """Decoupled weight decay, in place; cautious: where weight and step have one sign."""
    factor = group["lr"] * group["weight_decay"]
    if not factor:
        return
    if group["cautious"]:
        parameter.sub_(parameter * (parameter * step > 0), alpha=factor)
    else:
        parameter.mul_(1 - factor)
