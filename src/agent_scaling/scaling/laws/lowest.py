"""Estimates the return that a law's power of compute is added to, where returns reach 0 or below.

R = R₀ + A / (ρ + C^−γ) rises from R₀ as a power of C and, for ρ > 0, bends towards R₀ + A/ρ. For
fixed R₀, γ and ρ only A is left, in closed form, so that a grid of the three finds the least
squares of the returns themselves. No logarithm is taken: R₀ is not known yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from agent_scaling.scaling.intervals import LEVEL, NORMAL

FEWEST, BENDING = 4, 6
"""Fewest budgets from which R₀ is estimated, and fewest with a bend (ρ > 0)."""

MARGIN = 0.02
"""Least distance of R₀ below the lowest return, as a share of what the returns span, where their
standard errors are unknown; else it is the standard error of the lowest. Closer, the logarithm of
what lies above R₀ would be of noise alone."""

LEAST_ERROR = 0.1
"""Errors count as at least this share of their median: episodes may all end with one score."""

DEEPEST = 3.0
"""Largest distance of R₀ below the lowest return, in what the returns span."""

DEPTHS = 60
GAMMAS = np.linspace(0.02, 3.0, 75)
RATIOS = np.array([0.0, *np.exp(np.linspace(-3.0, 4.0, 15))])
"""The grid: number of R₀, exponents γ, and ρ over C^−γ at the highest budget."""


@dataclass(frozen=True)
class Lowest:
    """The return R₀ that laws count from, in points per episode.

    Attributes:
        value: R₀.
        interval: Of an estimated R₀, at :data:`intervals.LEVEL`; ``None`` where it was given, or
            where the budgets are too few for one.
        ends: The interval as far as it lies below all returns.
    """

    value: float
    interval: tuple[float, float] | None = None
    ends: tuple[float, float] | None = None


def estimate_lowest(
    log_flops_K: np.ndarray, best_K: np.ndarray, error_K: np.ndarray, lowest: float
) -> Lowest:
    """Estimate R₀ from the best return of each of K budgets, by weighted least squares.

    The interval holds each R₀ whose sum of squares is not significantly larger (F test).

    Args:
        log_flops_K: Logs of the budgets.
        best_K: Best return of each, points per episode.
        error_K: Their standard errors. Where one is unknown, errors are taken to grow with what
            the return lies above the lowest.
        lowest: Lowest return of all cells; R₀ lies below it.
    """
    span = max(float(best_K.max()) - lowest, 1e-9 * max(1.0, abs(lowest)))
    if np.isfinite(error_K).all():
        own = float(error_K[best_K.argmin()])
        spread = np.hypot(error_K, max(LEAST_ERROR * float(np.median(error_K)), 1e-6 * span))
    else:
        own = MARGIN * span
        spread = best_K - lowest + LEAST_ERROR * span
    nearest = max(own, 1e-3 * span)
    if len(best_K) < FEWEST:
        return Lowest(lowest - nearest)
    depth = np.geomspace(nearest, DEEPEST * span, DEPTHS)
    ratios = RATIOS if len(best_K) >= BENDING else RATIOS[:1]
    above = (best_K - lowest + depth[:, None]) / span  # else squares of large returns overflow
    least = _least_squares(log_flops_K, above, (span / spread) ** 2, ratios)
    spare = len(best_K) - (4 if len(ratios) > 1 else 3)
    limit = least.min() * (1 + special.fdtri(1, spare, LEVEL) / spare)
    held = lowest - depth[least <= limit]
    if not np.isfinite(held).any():
        return Lowest(lowest - nearest)
    ends = float(held.min()), float(held.max())
    touches = ends[1] >= lowest - nearest * (1 + 1e-9)
    high = lowest + NORMAL * own if touches else ends[1]  # the lowest itself errs
    return Lowest(lowest - float(depth[least.argmin()]), (ends[0], high), ends)


def _least_squares(
    log_flops_K: np.ndarray, above_ZK: np.ndarray, weight_K: np.ndarray, ratios_P: np.ndarray
) -> np.ndarray:
    """Return the least sum of squares of each row of ``above_ZK`` over γ and ρ, (Z,)."""
    x = log_flops_K - log_flops_K.max()
    shape = 1 / (ratios_P[:, None, None] + np.exp(-GAMMAS[:, None] * x))  # P, γ, K
    along = np.einsum("zk,k,pgk->zpg", above_ZK, weight_K, shape)
    size = np.einsum("k,pgk->pg", weight_K, shape**2)
    squares = (weight_K * above_ZK**2).sum(1)[:, None, None] - along**2 / size
    value: np.ndarray = np.maximum(squares.min((1, 2)), 0.0)
    return value
