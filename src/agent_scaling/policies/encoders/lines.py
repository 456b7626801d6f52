"""The message and status lines of NetHack's terminal, and the layers that all parts are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.envs.screens import COLUMNS
from agent_scaling.policies.costs import LayerCost, linear_cost

STATUS_CHARS = 2 * COLUMNS


def scaled(channels: int, scale: float) -> int:
    """``channels`` times ``scale``, at least one."""
    return max(1, round(channels * scale))


def mlp(widths: list[int], activation: type[nn.Module], norm: bool = False) -> nn.Sequential:
    """Linear layers, each followed by ``activation``; ``widths`` has the input's first.

    With ``norm``, a LayerNorm stands between the two.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        norms = [nn.LayerNorm(width_out)] if norm else []
        layers += [nn.Linear(width_in, width_out), *norms, activation()]
    return nn.Sequential(*layers)


def mlp_costs(name: str, module: nn.Sequential) -> Iterator[LayerCost]:
    """Costs of the linear layers of a sequence."""
    for index, layer in enumerate(module):
        if isinstance(layer, nn.Linear):
            yield linear_cost(f"{name}.{index}", layer.in_features, layer.out_features)


class Bag(nn.Module):
    """[N, K] row numbers → [N, width]: the rows' sum through an ELU MLP.

    The first layer is a product with one-hot (or many-hot) rows, done by look-ups.

    Args:
        name: The layer's name among the costs.
        rows: Rows of the table.
        width: Width of both layers.
        padding_row: A row that adds nothing, if there is one.
        norm: LayerNorm behind both layers.
    """

    def __init__(
        self,
        name: str,
        rows: int,
        width: int,
        padding_row: int | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.padding_row = name, padding_row
        # Stored this way round, a look-up reads whole rows: the transpose of the released weight.
        bound = rows**-0.5
        self.table = nn.Parameter(torch.empty(rows, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.out = nn.Linear(width, width)
        self.out_norm = nn.LayerNorm(width) if norm else nn.Identity()

    def summed(self, rows_NK: Tensor) -> Tensor:
        """Sum the rows, then the second layer."""
        sum_ND = F.embedding_bag(rows_NK, self.table, mode="sum", padding_idx=self.padding_row)
        hidden_ND = F.elu(self.norm(sum_ND + self.bias))
        return F.elu(self.out_norm(self.out(hidden_ND)))

    def costs(self) -> list[LayerCost]:
        """The table is a look-up."""
        width = self.bias.numel()
        table = LayerCost(f"{self.name}.table", "lookup", 0)
        return [table, linear_cost(f"{self.name}.out", width, width)]


class MessageLine(Bag):
    """uint8 [N, 80] → [N, width]: position-wise one-hot characters through an ELU MLP."""

    offsets: Tensor

    def __init__(self, width: int, norm: bool = False) -> None:
        # row = position · 256 + character
        super().__init__("message", COLUMNS * 256, width, norm=norm)
        self.register_buffer("offsets", torch.arange(COLUMNS) * 256, persistent=False)

    def forward(self, chars_NW: Tensor) -> Tensor:
        """Sum the characters' rows, then the second layer."""
        return self.summed(chars_NW.long() + self.offsets)

    def costs(self) -> list[LayerCost]:
        """The release runs the look-up as a dense 20,480-wide layer."""
        table, out = super().costs()
        return [replace(table, dense_flops=2 * self.table.numel()), out]


class StatusLines(nn.Module):
    """uint8 [N, 160] → [N, width]: two views of the characters through 1-d convolutions."""

    numerators: Tensor
    denominators: Tensor

    def __init__(self, width: int, scale: float = 1.0, norm: bool = False) -> None:
        super().__init__()
        self.channels = (2, scaled(32, scale), scaled(64, scale))
        self.convs = nn.Sequential(
            nn.Conv1d(*self.channels[:2], 8, stride=4),
            nn.ELU(),
            nn.Conv1d(*self.channels[1:], 4),
            nn.ELU(),
        )
        self.lengths = ((STATUS_CHARS - 8) // 4 + 1, (STATUS_CHARS - 8) // 4 + 1 - 3)
        self.mlp = mlp([self.channels[2] * self.lengths[1], width, width], nn.ELU, norm)
        codes = torch.arange(256)
        digits = torch.where((codes >= 45) & (codes <= 57), codes - 47, 0)
        # Both views are functions of one byte: a table of 256 rows, exact in any precision.
        numerators, denominators = torch.stack([codes - 32, digits], dim=1), torch.tensor([96, 10])
        self.register_buffer("numerators", numerators, persistent=False)
        self.register_buffer("denominators", denominators, persistent=False)

    def forward(self, chars_NW: Tensor) -> Tensor:
        """Views as channels, convolutions, MLP."""
        dtype = cast(nn.Conv1d, self.convs[0]).weight.dtype
        views = self.numerators.to(dtype) / self.denominators.to(dtype)
        seen_N2W = views[chars_NW.long()].transpose(1, 2)
        return cast(Tensor, self.mlp(self.convs(seen_N2W).flatten(1)))

    def costs(self) -> list[LayerCost]:
        """Two convolutions and the MLP."""
        before, between, after = self.channels
        first, second = self.lengths
        return [
            LayerCost("status.convs.0", "convolution", 2 * 8 * before * between * first),
            LayerCost("status.convs.2", "convolution", 2 * 4 * between * after * second),
            *mlp_costs("status.mlp", self.mlp),
        ]
