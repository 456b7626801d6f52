"""The latest budgets of a table, by the decades that they span: a grid may be fine or coarse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Recency(NamedTuple):
    """The fewest latest budgets, and the decades that they span at least where the table does."""

    fewest: int
    decades: float


RECENT = Recency(3, 0.6)
"""Of the local forms: three budgets of a grid 1, 2, 5, 10."""

LATEST = Recency(6, 1.6)
"""Of the bounded laws and of the relation of return to loss: six budgets of that grid."""

ORIGINS = 0.15
"""Decades between the origins of validation: closer ones see the same runs."""

ROUNDING = 1e-6


def latest(log_flops: np.ndarray, recency: Recency) -> int:
    """Number of the latest of sorted log budgets that satisfies ``recency``."""
    decades = (log_flops[-1] - log_flops) / np.log(10)
    within = int((decades < recency.decades - ROUNDING).sum())
    return min(max(within + 1, recency.fewest), len(log_flops))


def origins(log_flops: np.ndarray, first: int) -> list[int]:
    """Numbers of lowest budgets, from ``first`` on, to validate on: :data:`ORIGINS` apart."""
    kept: list[int] = []
    for count in range(first, len(log_flops)):
        step = log_flops[count - 1] - log_flops[kept[-1] - 1] if kept else np.inf
        if step >= (ORIGINS - ROUNDING) * np.log(10):
            kept.append(count)
    return kept
