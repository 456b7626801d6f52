"""The nominal coverage of all intervals, and half-widths of t-intervals at that level."""

from __future__ import annotations

import numpy as np
from scipy import special

LEVEL = 0.90
"""Nominal coverage of every interval."""
NORMAL = float(special.ndtri((1 + LEVEL) / 2))


def t_value(spare: np.ndarray | float) -> np.ndarray:
    """Return half a t-interval of :data:`LEVEL` in standard errors, for ``spare`` > 0 degrees of
    freedom."""
    value: np.ndarray = special.stdtrit(spare, (1 + LEVEL) / 2)
    return value


def half_width(standard_error: float, spare: int) -> float:
    """Return half a t-interval of :data:`LEVEL`; inf for 0 degrees of freedom (``spare``)."""
    return float(t_value(spare) * standard_error) if spare > 0 else np.inf
