"""A selective state-space core (Mamba-1, arXiv 2312.00752), as in the second release of the
paper's authors: parallel over a window, recurrent over frames, the same function."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.policies.cores.causal_conv import TAPS, convolve
from agent_scaling.policies.cores.selective_scan import fused_kernel, selective_scan
from agent_scaling.policies.cores.state import exact, zero_state
from agent_scaling.policies.costs import LayerCost, linear_cost

State = tuple[Tensor, Tensor]
RANK = 16  # features of the residual stream per feature of the time step's projection


class Block(nn.Module):
    """RMSNorm → projections → convolution over time → scan → gate → projection, added to x."""

    def __init__(self, width: int, inner: int, state_size: int, layers: int, eps: float) -> None:
        super().__init__()
        self.inner, self.state_size, self.rank = inner, state_size, math.ceil(width / RANK)
        self.norm = nn.RMSNorm(width, eps=eps)
        self.project = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, TAPS, groups=inner)
        self.select = nn.Linear(inner, self.rank + 2 * state_size, bias=False)
        self.step = nn.Linear(self.rank, inner)
        self.joined_rows = {
            "project": (inner, inner),
            "select": (self.rank, state_size, state_size),
        }
        """Rows of the matrices that a layer's weight holds one below the other."""
        self.per_feature = ("log_rate", "step.bias")
        """Parameters whose initial values are the same at all widths, though their layers' are not.
        """
        rates = torch.arange(1, state_size + 1, dtype=torch.float32).log()
        self.log_rate = nn.Parameter(rates.repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, width, bias=False)
        # Time steps from 0.001 to 0.1, as published.
        steps = torch.exp(torch.rand(inner) * math.log(100) + math.log(0.001)).clamp(min=1e-4)
        with torch.no_grad():
            self.step.weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
            self.step.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus⁻¹
            self.out.weight.mul_(layers**-0.5)  # the residual stream does not grow with depth

    def forward(
        self, x_TBD: Tensor, batch: Batch, tail_BDK: Tensor, state_BDN: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A window → its frames, the convolution's last inputs, the scan's state."""
        in_TBD, gate_TBD = self.project(self.norm(x_TBD)).chunk(2, dim=-1)
        in_TBD, tail_BDK = convolve(self.conv, in_TBD, batch, tail_BDK)
        in_TBD = F.silu(in_TBD)
        widths = [self.rank, self.state_size, self.state_size]
        step_TBR, write_TBN, read_TBN = torch.split(self.select(in_TBD), widths, dim=-1)
        step_TBD = F.softplus(self.step(step_TBR).to(exact(self.log_rate.dtype)))
        y_TBD, state_BDN = selective_scan(
            in_TBD, step_TBD, self.log_rate.exp(), write_TBN, read_TBN, batch.first_TB, state_BDN
        )
        gated_TBD = (y_TBD + in_TBD * self.skip) * F.silu(gate_TBD)
        return x_TBD + self.out(gated_TBD), tail_BDK, state_BDN


class Mamba1Core(nn.Module):
    """A stack of Mamba-1 blocks; the state is zeroed where a game opens.

    Args:
        input_width: Features per frame; a linear layer brings them to ``width`` if they differ.
        width: Width of the residual stream, and of the output.
        layers: Blocks.
        state_size: Features N that each inner feature remembers.
        expand: Inner width over ``width``.
        norm_eps: Added to the mean square in each RMSNorm.
    """

    recurrent = True

    def __init__(
        self,
        input_width: int,
        width: int = 512,
        layers: int = 4,
        state_size: int = 16,
        expand: float = 2.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.width, self.layers, self.state_size = width, layers, state_size
        self.inner = max(1, round(expand * width))
        self.embed = None if input_width == width else nn.Linear(input_width, width)
        self.blocks = nn.ModuleList(
            Block(width, self.inner, state_size, layers, norm_eps) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width, eps=norm_eps)

    @property
    def eager(self) -> bool:
        """True where a kernel of the package ``mamba_ssm`` scans windows."""
        return self.norm.weight.is_cuda and fused_kernel() is not None

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of a core of ``width`` for a policy of ``params`` parameters."""
        return {"width": width}

    def initial_state(self, lanes: int) -> State:
        """Zeros: the convolutions' inputs [layers, lanes, inner, 3] and the scans' states
        [layers, lanes, inner, state_size]."""
        zeros = partial(zero_state, self.norm.weight)
        tails = zeros(self.layers, lanes, self.inner, TAPS - 1)
        return tails, zeros(self.layers, lanes, self.inner, self.state_size)

    def forward(self, features_TBD: Tensor, batch: Batch, state: State) -> tuple[Tensor, State]:
        """[T, B, D] → [T, B, width] and the state after the window."""
        x_TBD = features_TBD if self.embed is None else self.embed(features_TBD)
        x_TBD = x_TBD.to(self.norm.weight.dtype)  # also under autocast
        kept: list[tuple[Tensor, Tensor]] = []
        for block, tail, scanned in zip(self.blocks, *state, strict=True):
            x_TBD, *after = block(x_TBD, batch, tail, scanned)
            kept.append((after[0].to(tail.dtype), after[1].to(scanned.dtype)))
        tails, states = (torch.stack(parts) for parts in zip(*kept, strict=True))
        return self.norm(x_TBD), (tails, states)

    def costs(self) -> list[LayerCost]:
        """The recurrence's products: x ⊗ write and state · read, 2·inner·state_size each."""
        found: list[LayerCost] = []
        if self.embed is not None:
            found.append(linear_cost("core.embed", self.embed.in_features, self.width))
        rank = math.ceil(self.width / RANK)
        for index in range(self.layers):
            name = f"core.blocks.{index}"
            found += [
                linear_cost(f"{name}.project", self.width, 2 * self.inner),
                LayerCost(f"{name}.conv", "convolution", 2 * TAPS * self.inner),
                linear_cost(f"{name}.select", self.inner, rank + 2 * self.state_size),
                linear_cost(f"{name}.step", rank, self.inner),
                LayerCost(f"{name}.scan", "scan", 4 * self.inner * self.state_size),
                linear_cost(f"{name}.out", self.inner, self.width),
            ]
        return found
