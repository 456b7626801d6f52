"""Lines of text as bags of their three-character pieces."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.policies.costs import LayerCost

PRIMES = (31, 131, 8191)


class TextBag(nn.Module):
    """uint8 [N, W] → [N, width]: the sum of a vector for each three characters in a row.

    Pieces share the table's rows by a hash; a piece of blanks adds nothing. Where on the line a
    piece stands is not seen.

    Args:
        rows: Rows of the table.
        width: Width of the vectors.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        self.table = nn.Parameter(torch.randn(rows + 1, width) * 0.1)

    def forward(self, chars_NW: Tensor) -> Tensor:
        """Sum the pieces' vectors."""
        code = chars_NW.int() - ord(" ")
        pieces = sum(
            prime * part
            for prime, part in zip(PRIMES, (code[:, :-2], code[:, 1:-1], code[:, 2:]), strict=True)
        )
        assert isinstance(pieces, Tensor)
        blank = (chars_NW[:, :-2] | chars_NW[:, 1:-1] | chars_NW[:, 2:]) == ord(" ")
        rows_NW = (pieces.remainder(self.rows) + 1).masked_fill(blank, 0)
        return F.embedding_bag(rows_NW, self.table, mode="sum", padding_idx=0)

    def costs(self, name: str) -> LayerCost:
        """Cost of the table: a look-up, 0 FLOPs."""
        return LayerCost(name, "lookup", 0)
