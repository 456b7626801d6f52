"""Laws of one variable, fitted to logarithms: a power law, and a power law with a floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from agent_scaling.scaling.intervals import half_width

GAMMAS = np.linspace(0.02, 1.5, 75)
"""Exponents γ of the grid of starts of the saturating fit."""

RATIOS = np.linspace(-12.0, 4.0, 65)
"""Log ratios of that grid: the floor over the decaying part, at the highest budget."""

OVERFLOW = 700.0
"""Logarithms beyond which a power is no double."""

RATIO_BOUNDS = (-14.0, 8.0)
GAMMA_BOUNDS = (0.005, 3.0)


@dataclass(frozen=True)
class Curve:
    """A fitted law y = f(x; θ) with Gaussian errors, x and y logarithms.

    Attributes:
        function: (θ, x of any shape) → y.
        theta: The parameters, shape (P,).
        covariance: The parameters' covariance, shape (P, P).
        noise: Standard deviation of a new point at the highest x fitted.
        spare: Residual degrees of freedom.
        converged: True where the optimum was reached to machine precision.
    """

    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    theta: np.ndarray
    covariance: np.ndarray
    noise: float
    spare: int
    converged: bool = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the law's log values at log budgets ``x``."""
        return self.function(self.theta, np.asarray(x, float))

    def standard_error(self, x: np.ndarray) -> np.ndarray:
        """Return the standard deviation of a new point at ``x``, from the parameters and noise."""
        x = np.asarray(x, float)
        slopes = numerical_slopes(self.function, self.theta, x)
        variance = np.einsum("xp,pq,xq->x", slopes, self.covariance, slopes)
        result: np.ndarray = np.sqrt(np.maximum(variance, 0) + self.noise**2)
        return result

    def interval(self, index: int) -> tuple[float, float]:
        """Return the t-interval of one parameter."""
        half = half_width(float(np.sqrt(self.covariance[index, index])), self.spare)
        return float(self.theta[index]) - half, float(self.theta[index]) + half


def numerical_slopes(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], theta: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Return ∂f/∂θ by central differences, shape (len(x), len(θ))."""
    slopes = []
    for i, value in enumerate(theta):
        step = np.zeros_like(theta)
        step[i] = 1e-5 * max(1.0, abs(value))
        slopes.append((function(theta + step, x) - function(theta - step, x)) / (2 * step[i]))
    return np.stack(slopes, 1)


def slope(curve: Curve, x: np.ndarray) -> np.ndarray:
    """Return dy/dx of a curve at ``x``, by central differences."""
    value: np.ndarray = (curve(x + 1e-4) - curve(x - 1e-4)) / 2e-4
    return value


def _finish(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    theta: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    converged: bool = True,
) -> Curve:
    """Make a curve, with its covariance by the delta method; ``weight`` is 1 at the highest x."""
    spare = len(x) - len(theta)
    residual = y - function(theta, x)
    variance = float((weight * residual**2).sum() / spare) if spare > 0 else np.inf
    slopes = numerical_slopes(function, theta, x)
    gram = slopes.T @ (weight[:, None] * slopes)
    inverse = np.linalg.pinv(gram, rcond=1e-12, hermitian=True)
    with np.errstate(invalid="ignore"):
        covariance = inverse * variance if np.isfinite(variance) else np.full_like(inverse, np.inf)
    return Curve(function, theta, covariance, float(np.sqrt(variance)), spare, converged)


def line(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Evaluate θ0 + θ1 x, a power law in logarithms."""
    value: np.ndarray = theta[0] + theta[1] * x
    return value


def fit_power(x: np.ndarray, y: np.ndarray) -> Curve:
    """Fit a power law by ordinary least squares of log values on log budgets, both (n,)."""
    design = np.stack([np.ones_like(x), x - x.mean()], 1)
    intercept, slope = np.linalg.lstsq(design, y, rcond=None)[0]
    return _finish(line, np.array([intercept - slope * x.mean(), slope]), x, y, np.ones_like(x))


def floor_curve(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Evaluate log(exp θ0 + exp(θ1 − θ2 x)), the logarithm of L∞ + a C^−γ."""
    value: np.ndarray = np.logaddexp(theta[0], theta[1] - theta[2] * x)
    return value


def fit_saturating(x: np.ndarray, y: np.ndarray, recency: float = 0.0) -> Curve:
    """Fit log(L∞ + a C^−γ) to log L by least squares; θ = (log L∞, log a, γ).

    A point weighs C^``recency``. For a fixed γ and ratio of floor to decay, the scale has a closed
    form. A grid over those two gives the start; Levenberg–Marquardt steps then converge to machine
    precision. Where the data show no floor, the ratio ends at its bound (e^−14).
    """
    last = x.max()
    weight = np.exp(recency * (x - last))
    ratio, gamma, _ = start_saturating(x - last, y, weight)
    root = np.sqrt(weight)

    def residual(p: np.ndarray) -> np.ndarray:
        shape = np.logaddexp(p[0], -p[1] * (x - last))
        scale = (weight * (y - shape)).sum() / weight.sum()
        return np.asarray(root * (y - shape - scale))

    def slopes(p: np.ndarray) -> np.ndarray:
        decay = -p[1] * (x - last)
        share = np.exp(p[0] - np.logaddexp(p[0], decay))
        free = np.stack([share, -(1 - share) * (x - last)], 1)
        return np.asarray(root[:, None] * ((weight @ free) / weight.sum() - free))

    bounds = np.array([RATIO_BOUNDS, GAMMA_BOUNDS]).T
    start = np.clip([ratio, gamma], bounds[0] + 1e-9, bounds[1] - 1e-9)
    best = optimize.least_squares(
        residual, start, slopes, bounds=bounds, xtol=1e-15, ftol=1e-15, gtol=1e-13
    )
    ratio, gamma = best.x
    shape = np.logaddexp(ratio, -gamma * (x - last))
    scale = float((weight * (y - shape)).sum() / weight.sum())
    theta = np.array([ratio + scale, scale + gamma * last, gamma])
    return _finish(floor_curve, theta, x, y, weight, bool(best.status > 0))


def shapes(x: np.ndarray) -> np.ndarray:
    """Return log(exp ratio + exp(−γ x)) for each of :data:`RATIOS` and :data:`GAMMAS`, (R, G, K).

    Powers are taken once for each γ, where no power overflows.
    """
    decay = -GAMMAS[:, None] * x
    if abs(decay).max() > OVERFLOW:
        return np.asarray(np.logaddexp(RATIOS[:, None, None], decay))
    both = np.exp(RATIOS)[:, None, None] + np.exp(decay)
    return np.asarray(np.log(both, out=both))


def start_saturating(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[float, float, float]:
    """Return the grid's best (log ratio, γ, cost); x is 0 at the highest budget."""
    ratio, gamma = (g.ravel() for g in np.meshgrid(RATIOS, GAMMAS, indexing="ij"))
    w = weight / weight.sum()
    rest = y - shapes(x).reshape(len(ratio), len(x))
    cost = np.einsum("gk,gk,k->g", rest, rest, w) - (rest @ w) ** 2
    i = int(cost.argmin())
    return float(ratio[i]), float(gamma[i]), float(cost[i])


def has_floor(curve: Curve, last: float) -> bool:
    """Return True where a saturating fit up to log budget ``last`` found an irreducible part."""
    decay = curve.theta[1] - curve.theta[2] * last
    return bool(curve.theta[0] - decay > RATIO_BOUNDS[0] + 1.0)
