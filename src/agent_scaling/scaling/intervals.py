"""The level of all intervals, and half-widths at it."""

from __future__ import annotations

import numpy as np
from scipy import stats

LEVEL = 0.90
"""Nominal coverage of every interval."""
NORMAL = float(stats.norm.ppf((1 + LEVEL) / 2))


def half_width(standard_error: float, spare: int) -> float:
    """Half a t-interval of :data:`LEVEL` with ``spare`` degrees of freedom; inf where none."""
    return float(stats.t.ppf((1 + LEVEL) / 2, spare) * standard_error) if spare > 0 else np.inf
