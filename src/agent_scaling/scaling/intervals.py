"""The nominal coverage of all intervals, and half-widths of t-intervals at that level."""

from __future__ import annotations

import numpy as np
from scipy import stats

LEVEL = 0.90
"""Nominal coverage of every interval."""
NORMAL = float(stats.norm.ppf((1 + LEVEL) / 2))


def half_width(standard_error: float, spare: int) -> float:
    """Return half a t-interval of :data:`LEVEL`; inf for 0 degrees of freedom (``spare``)."""
    return float(stats.t.ppf((1 + LEVEL) / 2, spare) * standard_error) if spare > 0 else np.inf
