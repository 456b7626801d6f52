"""A convolution over embedded cells as a sum of rows of a table; for inference.

A cell is one of a few thousand pairs of character and colour, so all that it can add to its
neighbours is computed once: nine look-ups per cell instead of nine products of embeddings. Most of
a map is blank, and where a cell and its neighbours are, the sum is known beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = 9  # of a 3×3 kernel
LEAST_CHANNELS = 12
"""Outputs from which the look-ups of one plane are faster on a CPU. With fewer, embedding and
convolving is, because a look-up takes as long for a short row as for a long one. Those of two
planes are always faster, because they replace the embedding of both."""


class LookupConv(nn.Module):
    """Computes ``conv`` of embedded planes, up to rounding, without embedding them.

    The weights are copied. A single plane needs :data:`LEAST_CHANNELS` outputs to gain from it.

    Args:
        tables: The planes' embeddings, of 256 rows and less.
        conv: 3×3, padded by 1, over the planes' concatenated embeddings.
        blank: The value of each plane at most of its cells. The answers do not depend on it.
    """

    rows: Tensor
    offsets: Tensor
    bias: Tensor

    def __init__(
        self, tables: list[nn.Embedding], conv: nn.Conv2d, blank: Sequence[int] = (ord(" "), 0)
    ) -> None:
        super().__init__()
        self.sizes = [table.num_embeddings for table in tables]
        outputs = conv.out_channels
        with torch.no_grad():
            taps_DKO = conv.weight.permute(1, 2, 3, 0).reshape(-1, TAPS * outputs)
            parts = torch.split(taps_DKO, [table.embedding_dim for table in tables])
            rows = torch.zeros(1, TAPS * outputs, device=conv.weight.device)
            for table, part in zip(tables, parts, strict=True):
                added = table.weight @ part
                rows = (rows[:, None] + added[None]).flatten(0, 1)
            outside = torch.zeros(1, TAPS * outputs, device=rows.device)  # the padding
            rows = torch.cat([rows, outside]).view(-1, outputs)
            bias = torch.zeros(outputs) if conv.bias is None else conv.bias.detach().clone()
        self.outside = len(rows) // TAPS - 1
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        offsets = torch.arange(TAPS, dtype=torch.int32)
        self.register_buffer("offsets", offsets.to(rows.device), persistent=False)
        self.blank = 0
        for value, size in zip(blank, self.sizes, strict=False):
            self.blank = self.blank * size + value
        self._empty: Tensor | None = None

    def forward(self, planes_NHW: list[Tensor]) -> Tensor:
        """Cells of each plane → [N, O, H, W], channels-last."""
        pair_NHW = planes_NHW[0].int()
        for plane, size in zip(planes_NHW[1:], self.sizes[1:], strict=True):
            pair_NHW = pair_NHW * size + plane
        empty_HWO = self._sums_of_empty(pair_NHW)
        sums_NHWO = empty_HWO.expand(len(pair_NHW), *empty_HWO.shape).contiguous()
        at_M = near(pair_NHW != self.blank).flatten().nonzero()[:, 0]
        sums_NHWO.view(-1, len(self.bias))[at_M] = self._sums(pair_NHW, at_M)
        return sums_NHWO.permute(0, 3, 1, 2)

    def _sums(self, pair_NHW: Tensor, at_M: Tensor) -> Tensor:
        """The sums at some cells, by their index among all: [M, O]."""
        height, width = pair_NHW.shape[1:]
        padded = F.pad(pair_NHW * TAPS, (1, 1, 1, 1), value=self.outside * TAPS)
        frame_M, cell_M = at_M // (height * width), at_M % (height * width)
        corner_M = (frame_M * (height + 2) + cell_M // width) * (width + 2) + cell_M % width
        tap = torch.arange(TAPS, device=at_M.device)
        around_M9 = corner_M[:, None] + (tap // 3 * (width + 2) + tap % 3)
        rows_M9 = padded.flatten()[around_M9].add_(self.offsets)
        return F.embedding_bag(rows_M9, self.rows, mode="sum").add_(self.bias)

    def _sums_of_empty(self, pair_NHW: Tensor) -> Tensor:
        """The sums of a frame of blanks of this size: [H, W, O]."""
        height, width = pair_NHW.shape[1:]
        if self._empty is None or self._empty.shape[:2] != (height, width):
            blank_1HW = torch.full_like(pair_NHW[:1], self.blank)
            every = torch.arange(height * width, device=pair_NHW.device)
            self._empty = self._sums(blank_1HW, every).view(height, width, -1)
        return self._empty


def look_up(table_RD: Tensor, row: Tensor) -> Tensor:
    """Rows of a table, by their numbers: [..., D].

    On a CPU not as an embedding, whose gradient is the same bit for bit and takes three to eight
    times as long; on a GPU the selection's gradient adds up in another order each time.
    """
    if row.is_cuda:
        return F.embedding(row, table_RD)
    return table_RD.index_select(0, row.flatten()).view(*row.shape, -1)


def near(marked_NHW: Tensor) -> Tensor:
    """True at marked cells and at their eight neighbours; bool as given."""
    padded = F.pad(marked_NHW, (1, 1, 1, 1))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]
