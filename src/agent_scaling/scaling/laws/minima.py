"""Minima of isoFLOP profiles, by a curve whose asymmetry all budgets of a table share.

With sizes N and frames D ∝ C/N, a law E + A/N^α + B/D^β at one budget is v = e + p N^−α + q N^β.
It has three coefficients per budget, as many as a parabola in ln N (its limit for α and β → 0), and
two exponents for the whole table. A parabola's minimum is biased where α ≠ β or sizes are coarse;
this curve's is not. v is the loss, or 1 / return.

Axes: B resamples (no axis for a single table), K budgets, S sizes; NaN marks absent values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from agent_scaling.scaling.intervals import NORMAL, t_value

NEAREST, FACTOR = 5, 6.0
"""The curve is fitted to the sizes nearest to a budget's best and to all within this factor of it.
Far from the optimum, profiles follow no law."""

NEAR = 2.0
"""The exponents are estimated from the nearest sizes and all cells within this factor of the best
value."""

PRIOR = np.log(0.4), np.log(2.0)
"""Mean and standard deviation of the prior of ln α and of ln β."""

ZOOMS, GRID = 10, 9
"""Rounds that narrow the grid of exponents around its posterior mass, and points along an axis."""


@dataclass(frozen=True)
class Shape:
    """The posterior of (ln α, ln β) of a table's profiles: mean (2,) and covariance (2, 2)."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Minima:
    """The minima of profiles; arrays of shape (…, K), values and sizes as logarithms.

    Attributes:
        log_n: ln N at the minimum, NaN where there is none.
        low, high: Fieller's interval of ``log_n``, NaN where unbounded.
        log_n_sd: Standard error of ``log_n``.
        value, value_sd, value_half: ln v at the minimum, its standard error, half its t-interval.
        curvature: Half the second derivative of ln v by ln N at the minimum.
        concave: True where the curve has a maximum instead.
        inside: True where the minimum lies within the fitted sizes.
        spare: Residual degrees of freedom.
        taken: True for the fitted sizes, (…, K, S).
    """

    log_n: np.ndarray
    low: np.ndarray
    high: np.ndarray
    log_n_sd: np.ndarray
    value: np.ndarray
    value_sd: np.ndarray
    value_half: np.ndarray
    curvature: np.ndarray
    concave: np.ndarray
    inside: np.ndarray
    spare: np.ndarray
    taken: np.ndarray


def nearest(log_n_S: np.ndarray, y_BKS: np.ndarray, factor: float = FACTOR) -> np.ndarray:
    """Return the mask (…, K, S) of the sizes that a budget's curve is fitted to."""
    known: np.ndarray = np.isfinite(y_BKS)
    if not known.size:
        return known
    distance = np.where(known, np.abs(log_n_S - _best(log_n_S, y_BKS)), np.inf)
    order = np.argsort(distance, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    taken: np.ndarray = known & ((rank < NEAREST) | (distance <= np.log(factor)))
    return taken


def _best(log_n_S: np.ndarray, y_BKS: np.ndarray) -> np.ndarray:
    lowest = np.where(np.isfinite(y_BKS), y_BKS, np.inf).argmin(-1)
    value: np.ndarray = log_n_S[lowest][..., None]
    return value


def shared_shape(log_n_S: np.ndarray, y_KS: np.ndarray) -> Shape:
    """Return the posterior of the exponents that all budgets of ``y_KS`` (ln v) share.

    The likelihood assumes Gaussian relative errors of one unknown variance and is profiled over
    each budget's coefficients. The prior is log-normal. The posterior is summed on a grid, which is
    narrowed until it resolves the mass. Without profiles the posterior is the prior.
    """
    if not y_KS.size:
        return Shape(np.full(2, PRIOR[0]), np.diag(np.full(2, PRIOR[1] ** 2)))
    return _shared_shape(log_n_S.tobytes(), y_KS.tobytes(), y_KS.shape)


@lru_cache(maxsize=4)  # laws, forecast and bootstrap ask for that of one table
def _shared_shape(log_n: bytes, y: bytes, shape: tuple[int, int]) -> Shape:
    log_n_S, y_KS = np.frombuffer(log_n), np.frombuffer(y).reshape(shape)
    # Cells far from the optimum would dominate on dense grids, so only near or good ones count.
    taken = nearest(log_n_S, y_KS, 1.0) | (y_KS - _lowest(y_KS) <= np.log(NEAR))
    spare = np.maximum(taken.sum(-1) - 3, 0)
    u, weight, v = _relative(log_n_S, y_KS[spare > 0], taken[spare > 0])
    unit = np.stack(np.meshgrid(*[np.linspace(-1, 1, GRID)] * 2, indexing="ij"), -1).reshape(-1, 2)
    mean, width = np.full(2, PRIOR[0]), np.full(2, 3 * PRIOR[1])
    for _ in range(ZOOMS):
        grid = mean + width * unit
        columns = _columns(u, grid[:, None, None, :])  # G, K, S, 3
        theta, _ = _solve(columns, weight, v)
        rest = v - np.einsum("gksi,gki->gks", columns, theta)
        square = np.maximum((weight * rest**2).sum((1, 2)), 1e-20)
        log_p = -0.5 * spare.sum() * np.log(square)
        log_p -= 0.5 * (((grid - PRIOR[0]) / PRIOR[1]) ** 2).sum(1)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = p @ grid
        covariance = (p[:, None] * (grid - mean)).T @ (grid - mean)
        spread = 4 * np.sqrt(np.diag(covariance))
        width = np.clip(spread, width / 2, width)  # halve at most: the mass may be a narrow valley
    return Shape(mean, covariance)


def find(log_n_S: np.ndarray, y_BKS: np.ndarray, mean: np.ndarray) -> Minima:
    """Fit each budget's curve for the exponents exp ``mean``, by least squares of relative errors.

    The interval of the minimum is Fieller's (1954) for p/q. Errors are NaN for a curve through
    three sizes or fewer, which has no residual degrees of freedom.
    """
    taken = nearest(log_n_S, y_BKS)
    u, weight, v = _relative(log_n_S, y_BKS, taken)
    columns = _columns(u, mean)
    theta, inverse = _solve(columns, weight, v)
    spare = taken.sum(-1) - 3
    square = (weight * (v - (columns @ theta[..., None])[..., 0]) ** 2).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = (np.where(spare > 0, square, np.nan) / spare)[..., None, None] * inverse
        return _minima(theta, covariance, np.exp(mean), u, taken, _origin(log_n_S, y_BKS))


def _origin(log_n_S: np.ndarray, y_BKS: np.ndarray) -> np.ndarray:
    """Return each budget's origin, the ln N and ln v that its fit is relative to, (…, K, 2)."""
    parts = [_best(log_n_S, y_BKS), _lowest(y_BKS)]
    value: np.ndarray = np.concatenate(parts, -1)
    return value


def _lowest(y_BKS: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.where(np.isfinite(y_BKS), y_BKS, np.inf).min(-1, keepdims=True)
    return value


MOST = 300.0
"""Largest ln v beside the best, above which squares of v would overflow; it weighs nothing."""


def _relative(
    log_n_S: np.ndarray, y_BKS: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln N minus the best size's, weights of relative errors, and v / best v.

    Each has shape (…, K, S).
    """
    v = np.exp(np.minimum(np.where(taken, y_BKS - _lowest(y_BKS), 0.0), MOST))
    return np.where(taken, log_n_S - _best(log_n_S, y_BKS), 0.0), taken / v**2, v


def _columns(u: np.ndarray, log_exponents: np.ndarray) -> np.ndarray:
    """Return the design's columns 1, N^−α, N^β at ln N = ``u``, on a new last axis."""
    alpha, beta = np.exp(log_exponents[..., 0]), np.exp(log_exponents[..., 1])
    down, up = np.exp(-alpha * u), np.exp(beta * u)
    return np.stack([np.ones_like(up), down, up], -1)


def _solve(columns: np.ndarray, weight: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve weighted least squares; returns coefficients (…, 3) and inverse Gram (…, 3, 3).

    The last two axes of ``columns`` are sizes and columns.
    """
    weighted = (columns * weight[..., None]).swapaxes(-1, -2)
    gram = weighted @ columns
    few = ((weight > 0).sum(-1) < 3) | ~np.isfinite(gram).all((-1, -2))
    gram = np.where(few[..., None, None], np.eye(3), gram)
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError:  # losses or sizes of which all but one vanish beside the largest
        few |= np.linalg.matrix_rank(gram, hermitian=True) < 3
        gram = np.where(few[..., None, None], np.eye(3), gram)
        inverse = np.linalg.inv(gram)
    theta = np.where(few[..., None], np.nan, (inverse @ (weighted @ v[..., None]))[..., 0])
    return theta, inverse


def _minima(
    theta: np.ndarray,
    covariance: np.ndarray,
    exponents: np.ndarray,
    u: np.ndarray,
    taken: np.ndarray,
    origin: np.ndarray,
) -> Minima:
    """Return the minima of e + p N^−α + q N^β: ln N = ln(α p / β q) / (α + β)."""
    alpha, beta = exponents
    p, q = theta[..., 1], theta[..., 2]
    spare = taken.sum(-1) - 3
    has = (p > 0) & (q > 0)
    at = np.where(has, np.log(alpha * p / (beta * q)) / (alpha + beta), np.nan)
    terms = np.stack([np.ones_like(at), np.exp(-alpha * at), np.exp(beta * at)], -1)
    value = (terms * theta).sum(-1)
    slopes = np.stack([np.zeros_like(at), 1 / p, -1 / q], -1) / (alpha + beta)
    bends = theta * terms * np.array([0.0, alpha**2, beta**2])
    low, high = _fieller(p, q, covariance, spare)
    ends = (np.log(alpha / beta * end) / (alpha + beta) for end in (low, high))
    low, high = (np.where(has, end, np.nan) + origin[..., 0] for end in ends)
    inside = np.where(taken, u, np.inf).min(-1) <= at
    inside &= at <= np.where(taken, u, -np.inf).max(-1)
    return Minima(
        at + origin[..., 0],
        low,
        high,
        _error(slopes, covariance),
        np.log(value) + origin[..., 1],
        _error(terms, covariance) / value,
        t_value(np.maximum(spare, 1)) * _error(terms, covariance) / value,
        bends.sum(-1) / value / 2,
        (p <= 0) & (q <= 0),
        inside,
        spare,
        taken,
    )


def _error(slopes: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.sqrt(np.einsum("...i,...ij,...j->...", slopes, covariance, slopes))
    return value


def _fieller(
    p: np.ndarray, q: np.ndarray, covariance: np.ndarray, spare: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of p/q by Fieller's theorem; NaN for an end that is not above 0."""
    t = t_value(np.maximum(spare, 1))
    a = q**2 - t**2 * covariance[..., 2, 2]
    b = p * q - t**2 * covariance[..., 1, 2]
    c = p**2 - t**2 * covariance[..., 1, 1]
    root = np.where(a > 0, np.sqrt(b**2 - a * c), np.nan)
    low = (b - root) / a
    return np.where(low > 0, low, np.nan), (b + root) / a


def shifts(log_n_S: np.ndarray, y_KS: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return the changes of the minima's ln N and ln v with the shape, (K, 2) each.

    The last axis holds two independent directions; the shape moves by one standard deviation along
    each.
    """
    values, vectors = np.linalg.eigh(shape.covariance)
    parts = []
    for direction in (vectors * np.sqrt(np.maximum(values, 0.0))).T:
        step = 1e-2 * direction
        ends = [find(log_n_S, y_KS, shape.mean + sign * step) for sign in (1, -1)]
        parts.append(
            [(getattr(ends[0], n) - getattr(ends[1], n)) / 2e-2 for n in ("log_n", "value")]
        )
    size, value = np.moveaxis(np.array(parts), 0, -1)
    return size, value


def widened(
    at: np.ndarray, low: np.ndarray, high: np.ndarray, moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Widen an interval (…, K) by the shape's uncertainty (:func:`shifts`), in quadrature."""
    half = NORMAL * np.linalg.norm(moved, axis=-1)
    return at - np.hypot(at - low, half), at + np.hypot(high - at, half)


def line_at(x_S: np.ndarray, y_KS: np.ndarray, taken: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Evaluate at ``at`` (…, K) the least-squares line of ``y_KS`` on ``x_S`` over ``taken`` sizes.

    NaN where fewer than two sizes have a ``y``.
    """
    weight = (taken & np.isfinite(y_KS)).astype(float)
    y = np.where(np.isfinite(y_KS), y_KS, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = weight.sum(-1)
        mean_x, mean_y = (weight * x_S).sum(-1) / count, (weight * y).sum(-1) / count
        x = x_S - mean_x[..., None]
        slope = (weight * x * y).sum(-1) / (weight * x**2).sum(-1)
        value: np.ndarray = np.where(count >= 2, mean_y + slope * (at - mean_x), np.nan)
    return value
