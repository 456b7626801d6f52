"""Intrinsic performance: what a return is worth in compute, by size and interactions.

Hilton et al. 2023 (arXiv 2301.13442) fit I^−β = (N_c/N)^α_N + (E_c/E)^α_E, where N is parameters, E
interactions, and I the intrinsic performance: a monotone function of the return, which is the least
compute that reaches it. A return may saturate, or grow as no power law does; I grows as C at the
best size. Here the log return is a polynomial of ln I, fitted together with the law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from agent_scaling.scaling.intervals import LEVEL

DRAWS = 1000
"""Laws drawn from the posterior, of which intervals are made."""
STARTS = ((0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (1.2, 1.2))
"""α_N and α_E from which the fit starts."""
CENTRE, SPREAD = 0.5, 0.7
"""Prior of both exponents: a factor of two either way. A common factor of both shows in the bend of
the contours alone."""
WIDE = 3.0
"""Prior's standard deviation of the log ratio of the two terms at the centre."""
SHORT, LONG, MANY = 2, 3, 16
"""Degrees of the polynomial: with fewer than so many cells, and with more."""
FEWEST = 9
"""Cells that a fit needs."""


@dataclass(frozen=True)
class Intrinsic:
    """A fitted law of intrinsic performance.

    Attributes:
        theta: ln α_N, ln α_E, and the log ratio of the two terms at the centre.
        centre: Mean ln N and ln E of the cells.
        cost: Coefficient and exponent of the FLOPs of an interaction, k N^s.
        draws: Drawn laws, of shape (draws, 3).
        noise: Log standard deviation of a return about the law.
        spare: Residual degrees of freedom.
    """

    theta: np.ndarray
    centre: np.ndarray
    cost: tuple[float, float]
    draws: np.ndarray
    noise: float
    spare: int

    @property
    def alphas(self) -> np.ndarray:
        """The exponents α_N and α_E of the law."""
        found: np.ndarray = np.exp(self.theta[:2])
        return found

    def exponent(self, theta: np.ndarray | None = None) -> float:
        """Return k of N_opt ∝ C^k."""
        a_n, a_e = np.exp((self.theta if theta is None else theta)[:2])
        return float(a_e / (a_n + self.cost[1] * a_e))

    def best_size(self, flops: float, theta: np.ndarray | None = None) -> float:
        """Return the parameters of the best policy at so many FLOPs."""
        chosen = self.theta if theta is None else theta
        (a_n, a_e), (k, s) = np.exp(chosen[:2]), self.cost
        # Where the derivatives of both terms agree: α_N A N^−α_N = s α_E B E^−α_E, E = C / (k N^s).
        room = np.log(flops / k) - self.centre[1] - s * self.centre[0]
        at = (np.log(a_n / (s * a_e)) + chosen[2] + a_e * room) / (a_n + s * a_e)
        return float(np.exp(at + self.centre[0]))

    def performance(self, params: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return the intrinsic performance of policies: FLOPs of the best size that equals them."""
        value = level(self.theta, np.log(params) - self.centre[0], np.log(frames) - self.centre[1])
        grid = np.linspace(-40.0, 40.0, 2001)  # log FLOPs about the cells' own
        k, s = self.cost
        middle = np.log(k) + s * self.centre[0] + self.centre[1]
        sizes = np.array([np.log(self.best_size(float(np.exp(middle + g)))) for g in grid])
        plays = middle + grid - np.log(k) - s * sizes
        best = level(self.theta, sizes - self.centre[0], plays - self.centre[1])
        found: np.ndarray = np.exp(middle + np.interp(value, best, grid))
        return found

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Return percentiles of values of the drawn laws."""
        low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
        return float(low), float(high)


def level(theta: np.ndarray, n: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Return β ln I, up to a constant, at centred ln N and ln E."""
    a_n, a_e = np.exp(theta[:2])
    found: np.ndarray = -np.logaddexp(theta[2] - a_n * n, -a_e * e)
    return found


def fit_intrinsic(
    params: np.ndarray, frames: np.ndarray, flops: np.ndarray, returns: np.ndarray
) -> Intrinsic:
    """Fit the law to cells by least squares of log returns, from several starts.

    Args:
        params: Parameters of each cell.
        frames: Its interactions.
        flops: Its training FLOPs.
        returns: Its mean return, above 0.

    Raises:
        ValueError: Fewer than :data:`FEWEST` cells.
    """
    if len(returns) < FEWEST:
        raise ValueError(f"{len(returns)} cells with a return; {FEWEST} are needed")
    n, e, value = np.log(params), np.log(frames), np.log(returns)
    centre = np.array([n.mean(), e.mean()])
    slope, offset = np.polyfit(n, np.log(flops) - e, 1)
    n, e = n - centre[0], e - centre[1]
    degree = LONG if len(value) >= MANY else SHORT
    spare, noise = max(len(value) - degree - 4, 1), 0.1
    prior = np.array([1 / SPREAD, 1 / SPREAD, 1 / WIDE])
    middle = np.array([np.log(CENTRE), np.log(CENTRE), 0.0])

    def residuals(whole: np.ndarray, noise: float) -> np.ndarray:
        fitted = np.polynomial.polynomial.polyval(level(whole[:3], n, e), whole[3:])
        return np.concatenate([(value - fitted) / noise, prior * (whole[:3] - middle)])

    starts = [np.array([*np.log(pair), 0.0]) for pair in STARTS]
    tried = [np.concatenate([s, polynomial(s, n, e, value, degree)]) for s in starts]
    for _ in range(3):  # the noise sets how much the prior counts
        found = [least_squares(residuals, start, args=(noise,)) for start in tried]
        best = min(found, key=lambda one: one.cost)
        left = noise * best.fun[: len(value)]
        noise = max(float(np.sqrt((left**2).sum() / spare)), 1e-6)
        tried = [best.x]
    precision = best.jac.T @ best.jac
    covariance = np.linalg.pinv(precision, hermitian=True)[:3, :3]
    drawn = np.random.default_rng(0).multivariate_normal(np.zeros(3), covariance, DRAWS)
    tails = np.sqrt(spare / np.random.default_rng(1).chisquare(spare, DRAWS))  # Student's t
    draws = best.x[:3] + drawn * tails[:, None]
    cost = float(np.exp(offset)), float(slope)
    return Intrinsic(best.x[:3], centre, cost, draws, noise, spare)


def polynomial(
    theta: np.ndarray, n: np.ndarray, e: np.ndarray, value: np.ndarray, degree: int
) -> np.ndarray:
    """Return the coefficients of the log returns' polynomial of the level, the constant first."""
    found: np.ndarray = np.polynomial.polynomial.polyfit(level(theta, n, e), value, degree)
    return found
