"""Laws of repeated data: the loss of N parameters after D frames, passes over U distinct ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from agent_scaling.scaling.intervals import LEVEL, half_width
from agent_scaling.scaling.laws import parametric

EXPONENT = np.log(0.4), np.log(2.0)
"""Mean and standard deviation of the prior of ln α and of ln β, as that of profiles."""

START_NOISE = 0.02
"""Log noise of a loss before a table is seen; priors weigh against it in the first round."""

LEAST_NOISE = 1e-4
"""Least log noise that priors weigh against."""

DRAWS = 200
"""Laws drawn from the posterior, of which intervals are made."""

SIZES = 600
"""Sizes among which the best one is looked for."""


@dataclass(frozen=True)
class Form:
    """A form's own parameters, as logarithms.

    Attributes:
        names: Of the parameters.
        prior: Mean and standard deviation of each one's logarithm, (P, 2).
        starts: Logarithms to start from, (starts, P).
        log_loss: (θ, ln N, ln D, ln U, centre) → ln L.
    """

    names: tuple[str, ...]
    prior: np.ndarray
    starts: np.ndarray
    log_loss: Callable[..., np.ndarray]


def _base(
    theta: np.ndarray, n: np.ndarray, d: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return ln E, ln A/N^α and ln B/D^β of θ = (ln E, ln A', ln B', ln α, ln β) at a centre."""
    alpha, beta = np.exp(theta[3:5])
    floor = np.full(np.broadcast(n, d).shape, theta[0])
    return floor, theta[1] - alpha * (n - centre[0]), theta[2] - beta * (d - centre[1])


def _sum(*terms: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.logaddexp.reduce(np.stack(np.broadcast_arrays(*terms)), axis=0)
    return value


def _worth(log_used: np.ndarray, log_distinct: np.ndarray, lasting: float) -> np.ndarray:
    """Return ln of the worth of what is used, of which only a part is distinct.

    The r-th repetition is worth exp(−r / ``lasting``) of what is distinct.
    """
    distinct = np.minimum(log_used, log_distinct)
    repeats = np.expm1(np.minimum(log_used - distinct, 50.0))
    value: np.ndarray = distinct + np.log1p(-lasting * np.expm1(-repeats / lasting))
    return value


def effective(
    theta: np.ndarray, n: np.ndarray, d: np.ndarray, u: np.ndarray, centre: np.ndarray
) -> np.ndarray:
    """Evaluate ln L of E + A/N'^α + B/D'^β (Muennighoff et al. 2023, eq. 5 and 6).

    D' is the worth of D frames of which U are distinct; N' that of N parameters, of which as many
    are needed as are best for the distinct frames. θ[5:] = (ln R_D*, ln R_N*).
    """
    lasting_d, lasting_n = np.exp(theta[5:7])
    alpha, beta = np.exp(theta[3:5])
    seen = np.minimum(d, u)
    ratio = theta[3] + theta[1] + alpha * centre[0] - theta[4] - theta[2] - beta * centre[1]
    needed = (ratio + beta * seen) / alpha
    return _sum(*_base(theta, _worth(n, needed, lasting_n), _worth(d, u, lasting_d), centre))


def penalty(
    theta: np.ndarray, n: np.ndarray, d: np.ndarray, u: np.ndarray, centre: np.ndarray
) -> np.ndarray:
    """Evaluate ln L of E + A/N^α + B/D^β + P r^δ (N/U)^κ, with r = D/U − 1 repetitions.

    An additive penalty of overfitting, as Lovelace et al. 2026 (arXiv 2605.01640) have one. θ[5:] =
    (ln P, ln δ, ln κ); (N/U) is relative to the centre's.
    """
    repeats = np.maximum(np.expm1(np.minimum(d - u, 50.0)), 1e-9)
    power, size = np.exp(theta[6:8])
    relative = (n - centre[0]) - (u - centre[1])
    return _sum(*_base(theta, n, d, centre), theta[5] + power * np.log(repeats) + size * relative)


FORMS = {
    "effective": Form(
        ("R_D", "R_N"),
        np.log([[15.0, 4.0], [5.0, 4.0]]),
        np.log([[15.0, 5.0], [4.0, 2.0]]),
        effective,
    ),
    "penalty": Form(
        ("P", "delta", "kappa"),
        np.array([[-5.0, 5.0], [0.0, np.log(2)], [0.0, np.log(2)]]),
        np.array([[-5.0, 0.0, 0.0], [-2.0, 0.0, -0.7]]),
        penalty,
    ),
}
"""Forms by their names in ``fit.json``. Muennighoff et al. found R_D* = 15.4, R_N* = 5.3."""


@dataclass(frozen=True)
class Repeated:
    """A fitted law of repeated data.

    Attributes:
        name: Its form, of :data:`FORMS`.
        theta: (ln E, ln A', ln B', ln α, ln β) and the form's, with A, B and N/U at ``centre``.
        covariance: Of ``theta``, (P, P).
        centre: Mean ln N and mean ln D of the cells.
        noise: Log standard deviation of a cell.
        spare: Residual degrees of freedom.
        cost: ln N of the sizes seen and ln(flops / (params · frames)) at each, (2, sizes).
        cells: Number of cells fitted.
        lowest: The lowest log loss of the cells, which no floor exceeds.
    """

    name: str
    theta: np.ndarray
    covariance: np.ndarray
    centre: np.ndarray
    noise: float
    spare: int
    cost: np.ndarray
    cells: int
    lowest: float

    def log_loss(
        self, n: np.ndarray, d: np.ndarray, u: np.ndarray, theta: np.ndarray | None = None
    ) -> np.ndarray:
        """Return ln L at ln N, ln D and ln U, of these parameters or of others."""
        values = self.theta if theta is None else theta
        return FORMS[self.name].log_loss(values, n, d, u, self.centre)

    def draws(self) -> np.ndarray:
        """Return :data:`DRAWS` parameters from the posterior, Student's t, (draws, P)."""
        generator = np.random.default_rng(0)
        values, vectors = np.linalg.eigh(self.covariance)
        normal = generator.standard_normal((DRAWS, len(values))) * np.sqrt(np.maximum(values, 0))
        scale = np.sqrt(self.spare / generator.chisquare(self.spare, (DRAWS, 1)))
        drawn: np.ndarray = self.theta + scale * normal @ vectors.T
        drawn[:, 0] = np.minimum(drawn[:, 0], max(self.lowest, self.theta[0]))
        return drawn

    def best(self, log_flops: float, log_unique: float) -> dict[str, tuple[float, float, float]]:
        """Return ``params``, ``frames``, ``passes`` and ``loss`` at the best size: value, interval.

        The interval of the loss is that of a new run.
        """
        found = np.array(
            [self._best(t, log_flops, log_unique) for t in (self.theta, *self.draws())]
        )
        found[1:, 2] += self.noise * np.random.default_rng(1).standard_normal(DRAWS)
        size, frames, loss = found.T
        logs = {"params": size, "frames": frames, "passes": frames - log_unique, "loss": loss}
        ends = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
        result = {}
        for name, values in logs.items():
            low, high = np.exp(np.percentile(values[1:], ends))
            result[name] = float(np.exp(values[0])), float(low), float(high)
        return result

    def _best(self, theta: np.ndarray, log_flops: float, log_unique: float) -> list[float]:
        """Return ln N, ln D and ln L of the best size; a parabola refines the grid's best."""
        size = np.linspace(self.cost[0].min() - 5, self.cost[0].max() + 9, SIZES)
        frames = log_flops - size - np.interp(size, *self.cost)
        loss = self.log_loss(size, frames, np.asarray(log_unique), theta)
        k = int(np.clip(loss.argmin(), 1, SIZES - 2))
        a, b, c = loss[k - 1 : k + 2]
        bend = a - 2 * b + c
        shift = float(np.clip((a - c) / (2 * bend), -1, 1)) if bend > 0 else 0.0
        at = size[k] + shift * (size[1] - size[0])
        return [at, float(np.interp(at, size, frames)), float(b - (a - c) * shift / 4)]

    def coefficients(self) -> dict[str, object]:
        """Return the parameters by name, each with its t-interval."""
        alpha, beta = np.exp(self.theta[3:5])
        found: dict[str, object] = {
            "E": float(np.exp(self.theta[0])),
            "log_A": float(self.theta[1] + alpha * self.centre[0]),
            "log_B": float(self.theta[2] + beta * self.centre[1]),
        }
        for k, name in enumerate(("alpha", "beta", *FORMS[self.name].names), 3):
            half = half_width(float(np.sqrt(self.covariance[k, k])), self.spare)
            low, middle, high = np.exp(self.theta[k] + half * np.array([-1.0, 0.0, 1.0]))
            found |= {name: float(middle), f"{name}_interval": [float(low), float(high)]}
        return found


def fit_repeated(cells: pd.DataFrame, name: str) -> Repeated:
    """Fit a form of :data:`FORMS` to cells of flops, params, samples, unique and loss.

    Least squares of log losses, with weak priors of the exponents and of the form's parameters,
    which few cells may leave open.
    """
    columns = ("params", "samples", "unique", "loss")
    n, d, u, y = (np.log(cells[column].to_numpy(float)) for column in columns)
    centre, form = np.array([n.mean(), d.mean()]), FORMS[name]
    unit = float(y.mean())
    worth = _worth(d, u, 15.0)
    (first, *_) = parametric.grid_starts(n - centre[0], worth - centre[1], y - unit, 1)
    prior = np.array([EXPONENT, EXPONENT, *form.prior])
    begin = np.r_[first[:3] + unit, np.log(first[3:])]
    low = np.r_[y.min() - 16.0, -40.0, -40.0, np.log([0.02, 0.02]), np.full(len(form.names), -30.0)]
    high = np.r_[y.min(), 40.0, 40.0, np.log([3.0, 3.0]), np.full(len(form.names), 12.0)]

    def rest(theta: np.ndarray, noise: float) -> np.ndarray:
        off = form.log_loss(theta, n, d, u, centre) - y
        both: np.ndarray = np.r_[off / noise, (theta[3:] - prior[:, 0]) / prior[:, 1]]
        return both

    starts = [np.clip(np.r_[begin, more], low + 1e-6, high - 1e-6) for more in form.starts]
    noise = START_NOISE
    spare = max(len(y) - 5, 1)
    for _ in range(3):
        found = [
            optimize.least_squares(rest, s, bounds=(low, high), args=(noise,), x_scale="jac")
            for s in starts
        ]
        best = min(found, key=lambda result: result.cost)
        starts = [best.x]
        square = float((best.fun[: len(y)] ** 2).sum()) * noise**2
        noise = max(float(np.sqrt(square / spare)), LEAST_NOISE)
    covariance = np.linalg.pinv(best.jac.T @ best.jac, rcond=1e-12, hermitian=True)
    cost = parametric.cost_by_size(cells)
    return Repeated(name, best.x, covariance, centre, noise, spare, cost, len(y), y.min())
