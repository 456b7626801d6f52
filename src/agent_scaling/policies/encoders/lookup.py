"""A convolution over embedded cells as a sum of rows of a table; for inference.

A cell is one of a few thousand pairs of character and colour, so all that it can add to its
neighbours is computed once: nine look-ups per cell instead of nine products of embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = 9  # of a 3×3 kernel
LEAST_CHANNELS = 12
"""Outputs from which the look-ups are faster on a CPU. With fewer, embedding and convolving is
faster, because a look-up takes as long for a short row as for a long one."""


class LookupConv(nn.Module):
    """Computes ``conv`` of embedded planes, up to rounding, without embedding them.

    The weights are copied. Use it from :data:`LEAST_CHANNELS` outputs on.

    Args:
        tables: The planes' embeddings, of 256 rows and less.
        conv: 3×3, padded by 1, over the planes' concatenated embeddings.
    """

    rows: Tensor
    offsets: Tensor
    bias: Tensor

    def __init__(self, tables: list[nn.Embedding], conv: nn.Conv2d) -> None:
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

    def forward(self, planes_NHW: list[Tensor]) -> Tensor:
        """Cells of each plane → [N, O, H, W], channels-last."""
        pair_NHW = planes_NHW[0].int()
        for plane, size in zip(planes_NHW[1:], self.sizes[1:], strict=True):
            pair_NHW = pair_NHW * size + plane
        height, width = pair_NHW.shape[1:]
        padded = F.pad(pair_NHW * TAPS, (1, 1, 1, 1), value=self.outside * TAPS)
        around = padded.unfold(1, 3, 1).unfold(2, 3, 1).reshape(-1, TAPS)
        sums = F.embedding_bag(around.add_(self.offsets), self.rows, mode="sum").add_(self.bias)
        return sums.view(-1, height, width, len(self.bias)).permute(0, 3, 1, 2)
