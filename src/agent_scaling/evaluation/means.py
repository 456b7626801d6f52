"""Means of named quantities over what was trained since the last point: sums, divided once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

Total = tuple[Tensor | float, Tensor | float]
"""A sum, and over how many it is."""


class Means(Metric):
    """One mean per name; names that were not seen are left out.

    Args:
        names: All that may be seen.
    """

    full_state_update = False
    sums_N: Tensor
    counts_N: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        for state in ("sums_N", "counts_N"):
            zeros = torch.zeros(len(self.names), dtype=torch.float64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, totals: Mapping[str, Total]) -> None:
        """Add sums and counts; nothing waits for the device."""
        for name, (total, count) in totals.items():
            index = self.names.index(name)
            self.sums_N[index] += total.detach() if isinstance(total, Tensor) else total
            self.counts_N[index] += count

    def compute(self) -> dict[str, float]:
        """Names and means."""
        pairs = zip(self.names, self.sums_N.tolist(), self.counts_N.tolist(), strict=True)
        return {name: total / count for name, total, count in pairs if count}
