"""Cells of NetHack's map as vectors, and windows of them around the cursor.

A cell is one of a few thousand pairs of character and colour, and a batch has some hundred of them:
what the first layer makes of a pair is computed once per pair and then looked up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.envs.screens import COLUMNS
from agent_scaling.policies.costs import LayerCost
from agent_scaling.policies.encoders.screen import MAP_ROWS

CHARS, COLORS = 256, 32
BLANK = ord(" ") * COLORS
"""The pair that stands for nothing: blank cells, and those outside the map."""


class CellTable(nn.Module):
    """A vector for each pair of character and colour; that of a blank cell is 0.

    Args:
        width: Of the vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.chars = nn.Parameter(torch.randn(CHARS, width))
        self.colors = nn.Parameter(torch.randn(COLORS, width) * 0.5)

    def of(self, pairs_P: Tensor) -> Tensor:
        """[P] pairs → [P, width]."""
        chars, colors = pairs_P // COLORS, pairs_P % COLORS
        vectors = self.chars.index_select(0, chars) * (1 + self.colors.index_select(0, colors))
        return vectors * (chars != ord(" "))[:, None]


def pairs_of(chars_NHW: Tensor, colors_NHW: Tensor) -> Tensor:
    """Characters and colours → pairs, int64; every blank is :data:`BLANK`."""
    pairs = chars_NHW.long() * COLORS + (colors_NHW.long() & (COLORS - 1))
    return pairs.masked_fill(chars_NHW == ord(" "), BLANK)


class Window(nn.Module):
    """The cells around the cursor, row by row in patches.

    Args:
        rows: Of a patch.
        columns: Of a patch.
        down: Patches below each other.
        across: Patches side by side.
    """

    offsets: Tensor

    def __init__(self, rows: int, columns: int, down: int, across: int) -> None:
        super().__init__()
        self.patches, self.taps = down * across, rows * columns
        self.above, self.left = rows * down // 2, columns * across // 2
        self.stride = COLUMNS + 2 * self.left
        row = torch.arange(rows * down).view(down, 1, rows, 1)
        column = torch.arange(columns * across).view(1, across, 1, columns)
        offsets = (row * self.stride + column).reshape(self.patches, self.taps)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, pairs_NHW: Tensor, cursor_N2: Tensor) -> Tensor:
        """[N, 21, 80] pairs and cursors on the terminal → [N, patches, taps]; blank outside."""
        padding = (self.left, self.left, self.above, self.above)
        padded_NL = F.pad(pairs_NHW, padding, value=BLANK).flatten(1)
        row_N = (cursor_N2[:, 0].long() - 1).clamp(0, MAP_ROWS - 1)  # row 0 is the message
        column_N = cursor_N2[:, 1].long().clamp(0, COLUMNS - 1)
        corner_N1 = (row_N * self.stride + column_N)[:, None]
        found = padded_NL.gather(1, corner_N1 + self.offsets.flatten())
        return found.view(-1, self.patches, self.taps)


class PatchConv(nn.Module):
    """A convolution over cells whose stride is its kernel, by looking up what each pair adds.

    What a pair adds at a tap is a row of (pairs · taps); a patch is the sum of its cells' rows.
    Blank cells add nothing and, on a CPU, cost nothing.

    Args:
        cells: Vectors of the pairs.
        taps: Cells of a patch.
        channels: Of a patch.
    """

    def __init__(self, cells: CellTable, taps: int, channels: int) -> None:
        super().__init__()
        self.taps, self.channels, self.width = taps, channels, cells.width
        self.linear = nn.Linear(taps * cells.width, channels)

    def forward(self, cells: CellTable, pairs_NPT: Tensor) -> Tensor:
        """[N, patches, taps] pairs → [N, patches, channels]."""
        if pairs_NPT.device.type != "cpu" or torch.compiler.is_compiling():
            return self.dense(cells, pairs_NPT)
        seen = torch.zeros(CHARS * COLORS, dtype=torch.bool)
        seen[pairs_NPT.flatten()] = True
        seen[BLANK] = False
        number = seen.cumsum(0) - 1  # of each pair among those that are there
        weight_TDO = self.linear.weight.t().view(self.taps, self.width, self.channels)
        rows = torch.einsum("pd,tdo->pto", cells.of(seen.nonzero()[:, 0]), weight_TDO).flatten(0, 1)
        there = (pairs_NPT != BLANK).flatten().nonzero()[:, 0]
        pair = pairs_NPT.flatten().index_select(0, there)
        added = rows.index_select(0, number.index_select(0, pair) * self.taps + there % self.taps)
        frames, patches = pairs_NPT.shape[:2]
        sums = added.new_zeros(frames * patches, self.channels)
        sums = sums.index_add(0, there // self.taps, added)
        return sums.view(frames, patches, self.channels) + self.linear.bias

    def dense(self, cells: CellTable, pairs_NPT: Tensor) -> Tensor:
        """The same as a product of all cells' vectors with the kernel."""
        vectors = cells.of(pairs_NPT.flatten()).view(*pairs_NPT.shape[:2], -1)
        found: Tensor = self.linear(vectors)
        return found

    def costs(self, name: str, patches: int) -> LayerCost:
        """Cost of the convolution; blank cells and repeated pairs count."""
        flops = 2 * patches * self.taps * self.width * self.channels
        return LayerCost(name, "convolution", flops)
