"""Counts a table's latest budgets by the decades that they span, on fine and coarse grids alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Recency(NamedTuple):
    """A range of latest budgets: their fewest number, and the decades that they span at least.

    A table that spans fewer decades is used whole.
    """

    fewest: int
    decades: float


RECENT = Recency(3, 0.6)
"""The range of the local forms: three budgets of a grid 1, 2, 5, 10."""

LATEST = Recency(6, 1.6)
"""The range of the bounded laws and of the relation of return to loss: six budgets of that grid."""

ORIGINS = 0.15
"""Least decades between the origins of validation; closer origins see the same runs."""

ROUNDING = 1e-6


def latest(log_flops: np.ndarray, recency: Recency) -> int:
    """Return the number of latest budgets, of sorted log budgets, that satisfies ``recency``."""
    decades = (log_flops[-1] - log_flops) / np.log(10)
    within = int((decades < recency.decades - ROUNDING).sum())
    return min(max(within + 1, recency.fewest), len(log_flops))


def origins(log_flops: np.ndarray, first: int) -> list[int]:
    """Return the validation's origins as numbers of lowest budgets, :data:`ORIGINS` apart."""
    kept: list[int] = []
    for count in range(first, len(log_flops)):
        step = log_flops[count - 1] - log_flops[kept[-1] - 1] if kept else np.inf
        if step >= (ORIGINS - ROUNDING) * np.log(10):
            kept.append(count)
    return kept
