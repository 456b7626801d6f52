"""The default fits, vectorised over resamples.

Axes: B resamples, K budgets, S sizes; NaN marks absent values.
"""

from __future__ import annotations

import numpy as np

from agent_scaling.scaling.laws.curves import GAMMA_BOUNDS, GAMMAS, RATIO_BOUNDS, RATIOS


def slopes(x_BK: np.ndarray, y_BK: np.ndarray) -> np.ndarray:
    """Return each row's least-squares slope over the points where x and y are finite, (B,).

    NaN for rows with fewer than three such points.
    """
    known = np.isfinite(x_BK) & np.isfinite(y_BK)
    count = known.sum(1)
    x, y = np.where(known, x_BK, 0.0), np.where(known, y_BK, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(known, x - (x.sum(1) / count)[:, None], 0.0)
        value: np.ndarray = (x * y).sum(1) / (x**2).sum(1)
    return np.where(count >= 3, value, np.nan)


def best(value_BSK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the size with the lowest value of each budget, and that value.

    Both have shape (B, K); the value is NaN for a budget without any.
    """
    filled = np.where(np.isfinite(value_BSK), value_BSK, np.inf)
    index = filled.argmin(1)
    value = np.take_along_axis(filled, index[:, None], 1)[:, 0]
    return index, np.where(np.isfinite(value), value, np.nan)


def saturating(x_K: np.ndarray, y_BK: np.ndarray, steps: int = 40) -> np.ndarray:
    """Fit :func:`curves.fit_saturating` to all rows at once; returns (log L∞, γ), shape (B, 2).

    NaN for rows with fewer than four points.
    """
    known = np.isfinite(y_BK)
    weight = known / np.maximum(known.sum(1, keepdims=True), 1)
    x, y = x_K - x_K.max(), np.where(known, y_BK, 0.0)
    p_B2 = _start(x, y, weight)
    low, high = np.array([RATIO_BOUNDS, GAMMA_BOUNDS]).T
    rest, slope = _residual(p_B2, x, y, weight)
    cost, damping = (weight * rest**2).sum(1), np.full(len(y), 1e-2)
    for _ in range(steps):  # Levenberg–Marquardt on two parameters, the scale projected out
        gram = np.einsum("bk,bik,bjk->bij", weight, slope, slope)
        right = np.einsum("bk,bik,bk->bi", weight, slope, rest)
        diagonal = np.einsum("bii->bi", gram)
        diagonal += damping[:, None] * diagonal + 1e-14
        step = np.linalg.solve(gram, right[..., None])[..., 0]
        trial = np.clip(p_B2 + np.clip(step, -1, 1), low, high)
        new_rest, new_slope = _residual(trial, x, y, weight)
        new_cost = (weight * new_rest**2).sum(1)
        better = new_cost < cost
        damping = np.where(better, damping / 5, np.minimum(damping * 5, 1e8))
        p_B2[better], rest[better], slope[better] = (
            trial[better],
            new_rest[better],
            new_slope[better],
        )
        cost = np.where(better, new_cost, cost)
    shape = np.logaddexp(p_B2[:, :1], -p_B2[:, 1:] * x)
    scale = (weight * (y - shape)).sum(1)
    found = np.stack([p_B2[:, 0] + scale, p_B2[:, 1]], 1)
    found[known.sum(1) < 4] = np.nan
    return found


def _start(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the grid's best (log ratio, γ) of each row, (B, 2).

    The weighted sums of squares are computed as matrix products.
    """
    ratio, gamma = (g.ravel() for g in np.meshgrid(RATIOS[::2], GAMMAS[::2], indexing="ij"))
    shape = np.logaddexp(ratio[:, None], -gamma[:, None] * x)  # G, K
    mean = (weight * y).sum(1)[:, None] - weight @ shape.T
    square = (weight * y**2).sum(1)[:, None] - 2 * (weight * y) @ shape.T + weight @ (shape**2).T
    index = (square - mean**2).argmin(1)
    return np.stack([ratio[index], gamma[index]], 1)


def _residual(
    p_B2: np.ndarray, x: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return residuals (B, K), with the scale at its optimum, and the shape's slopes (B, 2, K)."""
    shape = np.logaddexp(p_B2[:, :1], -p_B2[:, 1:] * x)
    share = np.exp(p_B2[:, :1] - shape)
    slope = np.stack([share, -(1 - share) * x], 1)
    slope = slope - (weight[:, None] * slope).sum(2, keepdims=True)
    rest = y - shape
    return rest - (weight * rest).sum(1, keepdims=True), slope
