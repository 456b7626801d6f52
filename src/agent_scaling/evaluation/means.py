"""Means of named quantities between two logged points, as sums that are divided once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

Total = tuple[Tensor | float, Tensor | float]
"""A sum, with the number of its terms."""


class Means(Metric):
    """Metric with one mean per name; names without values are left out.

    Args:
        names: Names of all quantities that may occur.
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
        """Add sums and counts, without waiting for the device."""
        for name, (total, count) in totals.items():
            index = self.names.index(name)
            self.sums_N[index] += total.detach() if isinstance(total, Tensor) else total
            self.counts_N[index] += count

    def compute(self) -> dict[str, float]:
        """Return the mean of each name that has values."""
        pairs = zip(self.names, self.sums_N.tolist(), self.counts_N.tolist(), strict=True)
        return {name: total / count for name, total, count in pairs if count}
