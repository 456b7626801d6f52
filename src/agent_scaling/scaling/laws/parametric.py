"""Laws of two variables: L(N, D) = E + A/N^α + B/D^β, and the quadratic of ln L in ln N, ln D."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws.curves import OVERFLOW

NEAR = 2.0
"""The law is fitted to cells with a loss within this factor of their budget's best. Cells far from
the optimum do not follow the law; with them, E collapses to 0."""

FEWEST = 8
"""Cells below which the law is not fitted."""

HUBER = 1e-3
"""Width of the Huber loss on log loss (Hoffmann et al. 2022)."""

ROUNDING = 1e-12
"""Differences of log losses up to this are rounding errors."""

EXACT = 1e-28
"""Largest objective per cell of a law that passes through all cells, to rounding."""

EXPONENTS = np.linspace(0.04, 1.6, 40)
"""Values of α and of β in the grid of starts."""

SETTLED = 1e-12
"""A Newton step that would lower the objective by less than this share of it is the last one."""

NEARBY = 1e-6
"""The same for the wide Huber losses, whose minima are starts alone."""

TIED = 1e-11
"""Losses whose relative difference is below this may be equal to rounding."""


@dataclass(frozen=True)
class Parametric:
    """A fitted L(N, D), θ = (log E, log A, log B, α, β) about ``centre`` (mean ln N, mean ln D).

    Attributes:
        theta: θ, with A and B at the centre: A' = A / exp(α · mean ln N).
        centre: Mean ln N and ln D of the cells.
        objective: Sum of the Huber losses.
        gradient: Largest absolute derivative of the objective at θ.
        converged: True where a Newton step would change the objective by less than its rounding.
        minima: Objectives of the distinct local minima that the starts led to, lowest first.
        cost: ln N of the sizes seen and ln(flops / (params · frames)) at each, shape (2, sizes).
        cells: Number of cells fitted.
    """

    theta: np.ndarray
    centre: np.ndarray
    objective: float
    gradient: float
    converged: bool
    minima: list[float]
    cost: np.ndarray
    cells: int

    def log_loss(self, log_n: np.ndarray, log_d: np.ndarray) -> np.ndarray:
        """Return ln L at ln N and ln D, which broadcast."""
        terms = _terms(self.theta, log_n - self.centre[0], log_d - self.centre[1])
        value: np.ndarray = np.logaddexp.reduce(terms, axis=0)
        return value

    def moved(self, theta: np.ndarray) -> Parametric:
        """Return the same law with the parameters ``theta``."""
        return replace(self, theta=theta)

    def about(self, centre: np.ndarray) -> np.ndarray:
        """Return θ of the same law about another centre."""
        theta = self.theta.copy()
        theta[1:3] += theta[3:] * (self.centre - centre)
        return theta

    def optimum(self, log_flops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (ln L, ln N) of each budget's best size, among 2,000 sizes."""
        width = max(np.ptp(self.cost[0]), 1.0)
        log_n = np.linspace(self.cost[0].min() - width, self.cost[0].max() + 2 * width, 2000)
        extra, log_flops = np.interp(log_n, *self.cost), np.asarray(log_flops)
        near = self._near_best(log_flops, log_n, extra)
        if near is None:
            loss = self.log_loss(log_n, log_flops[:, None] - log_n - extra)
            best = loss.argmin(1)
            return loss[np.arange(len(best)), best], log_n[best]
        budget, size = np.nonzero(near)
        loss = self.log_loss(log_n[size], log_flops[budget] - log_n[size] - extra[size])
        lowest = np.minimum.reduceat(loss, np.searchsorted(budget, np.arange(len(log_flops))))
        at = np.flatnonzero(loss == lowest[budget])
        return lowest, log_n[size[at[np.unique(budget[at], return_index=True)[1]]]]

    def _near_best(
        self, log_flops: np.ndarray, log_n: np.ndarray, extra: np.ndarray
    ) -> np.ndarray | None:
        """Return the sizes that may have a budget's lowest loss, (budgets, sizes) of bool.

        A/N^α + B/D^β is a sum of products, as D is C / (N · exp ``extra``): much cheaper than L.
        ``None`` where a power is no double.
        """
        e, a, b, alpha, beta = self.theta
        first = a - alpha * (log_n - self.centre[0])
        second = b + beta * (log_n + extra + self.centre[1])
        by_budget = -beta * log_flops
        sums = (first, second, by_budget)
        if not len(log_flops) or not all((abs(part) < OVERFLOW / 2).all() for part in sums):
            return None
        both = np.exp(first) + np.exp(by_budget)[:, None] * np.exp(second)
        lowest = both.min(1, keepdims=True)
        return np.asarray(both - lowest <= TIED * (np.exp(min(e, OVERFLOW)) + lowest))

    def best_size(self, log_frames_params: np.ndarray) -> np.ndarray:
        """ln N of the lowest loss at products N · D, given as logarithms."""
        a, b, alpha, beta = self.theta[1:]
        ratio = a + alpha * self.centre[0] - b - beta * self.centre[1] + np.log(alpha / beta)
        value: np.ndarray = (ratio + beta * np.asarray(log_frames_params)) / (alpha + beta)
        return value

    def coefficients(self) -> dict[str, float]:
        """Return E, ln A, ln B, α, β and the implied exponents of N_opt and D_opt.

        N ∝ C^(β/(α+β)) and D ∝ C^(α/(α+β)).
        """
        e, a, b, alpha, beta = (float(v) for v in self.theta)
        values = {"E": np.exp(e), "log_A": a + alpha * self.centre[0]}
        values |= {"log_B": b + beta * self.centre[1], "alpha": alpha, "beta": beta}
        values |= {"N_opt": beta / (alpha + beta), "D_opt": alpha / (alpha + beta)}
        return {name: float(value) for name, value in values.items()}


def near_optimum(cells: pd.DataFrame, factor: float = NEAR) -> pd.DataFrame:
    """Select the cells with known samples and a loss within ``factor`` of their budget's lowest."""
    known = cells[(cells["loss"] > 0) & (cells["samples"] > 0)]
    best = known.groupby("flops")["loss"].transform("min")
    return known[known["loss"] <= factor * best]


def enough(near: pd.DataFrame) -> bool:
    """Return True where these cells suffice to fit five coefficients."""
    return len(near) >= FEWEST and near["params"].nunique() >= 3 and varies(near["loss"])


def varies(values: pd.Series) -> bool:
    """Return True where positive values differ by more than rounding."""
    return len(values) > 0 and bool(np.ptp(np.log(values.to_numpy(float))) > ROUNDING)


def cost_by_size(cells: pd.DataFrame) -> np.ndarray:
    """Return ln N of each size and the median ln(flops / (params · frames)) at it, (2, sizes)."""
    known = cells[cells["samples"] > 0]
    logs = np.log(known["flops"] / known["params"] / known["samples"])
    by_size = pd.Series(logs).groupby(known["params"]).median()
    return np.stack([np.log(by_size.index.to_numpy(float)), by_size.to_numpy(float)])


def _terms(theta: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    n, d = np.broadcast_arrays(n, d)
    return np.stack([np.full(n.shape, theta[0]), theta[1] - theta[3] * n, theta[2] - theta[4] * d])


def fit_parametric(
    cells: pd.DataFrame,
    factor: float = NEAR,
    delta: float = HUBER,
    start: Parametric | None = None,
) -> Parametric:
    """Fit L(N, D) by approach 3 of Hoffmann et al. (2022): a grid of starts, then Newton steps.

    For fixed exponents, E, A and B are linear, so a grid of exponents covers all starts (variable
    projection). The starts are the grid's local minima, or the law ``start`` alone. ``cells`` holds
    flops, params, samples and loss.
    """
    near = near_optimum(cells, factor)
    log_n, log_d = np.log(near["params"].to_numpy(float)), np.log(near["samples"].to_numpy(float))
    y = np.log(near["loss"].to_numpy(float))
    scale, y = float(y.mean()), y - y.mean()  # a loss may be in any unit
    centre = np.array([log_n.mean(), log_d.mean()])
    n, d = log_n - centre[0], log_d - centre[1]
    starts = grid_starts(n, d, y) if start is None else [start.about(centre) - _unit(scale)]
    found = [_polish(theta, n, d, y, delta) for theta in starts]
    found.sort(key=lambda item: item[1])
    theta, value = found[0]
    gradient, hessian = huber_derivatives(theta, n, d, y, delta)[1:]
    free = np.r_[theta[0] > y.min() - 15.9, np.ones(4, bool)]  # E cannot fall below 0
    gradient, hessian = gradient[free], hessian[np.ix_(free, free)]
    gain = float(gradient @ np.linalg.pinv(hessian, hermitian=True) @ gradient)
    distinct = _distinct([f[1] for f in found])
    converged = abs(gain) <= 1e-12 * max(value, delta**2)
    cost = cost_by_size(cells)
    size = float(np.abs(gradient).max())
    theta = theta + _unit(scale)
    return Parametric(theta, centre, value, size, converged, distinct, cost, len(y))


def _unit(scale: float) -> np.ndarray:
    """Return the change of θ for losses exp(``scale``) times as large."""
    return scale * np.array([1.0, 1.0, 1.0, 0.0, 0.0])


def _distinct(values: list[float]) -> list[float]:
    kept: list[float] = []
    for value in values:
        if not kept or value > kept[-1] * (1 + 1e-6) + 1e-15:
            kept.append(value)
    return kept


def grid_starts(n: np.ndarray, d: np.ndarray, y: np.ndarray, count: int = 4) -> list[np.ndarray]:
    """Return θ at the ``count`` lowest local minima of the profiled squared relative error."""
    alpha, beta = np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij")
    weight = np.exp(-y)  # relative errors approximate log errors well enough for a start
    powers_n, powers_d = (np.exp(-EXPONENTS[:, None] * at) * weight for at in (n, d))
    linear, cost = nonnegative(*normal_equations(weight, powers_n, powers_d), len(y))
    surface = np.pad(cost.reshape(alpha.shape), 1, constant_values=np.inf)
    inner = surface[1:-1, 1:-1]
    neighbours = [
        surface[1 + i : surface.shape[0] - 1 + i, 1 + j : surface.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if i or j
    ]
    low = np.flatnonzero((inner <= np.min(neighbours, axis=0)).ravel())
    low = low[np.argsort(cost[low])][:count]
    logs = np.log(np.maximum(linear[low], 1e-7))
    return [np.r_[logs[i], alpha.ravel()[g], beta.ravel()[g]] for i, g in enumerate(low)]


def normal_equations(
    constant: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gram matrices (A·B, 3, 3) and right sides (A·B, 3) of all pairs of columns.

    A design has ``constant`` (n,), one of ``first`` (A, n) and one of ``second`` (B, n); it is
    fitted to 1. The products of columns are taken once: a design for each pair would be A·B tables.
    """
    gram, right = np.empty((len(first), len(second), 3, 3)), np.empty((len(first), len(second), 3))
    gram[..., 0, 0], right[..., 0] = constant @ constant, constant.sum()
    gram[..., 1, 1], right[..., 1] = (first**2).sum(1)[:, None], first.sum(1)[:, None]
    gram[..., 2, 2], right[..., 2] = (second**2).sum(1), second.sum(1)
    gram[..., 0, 1] = gram[..., 1, 0] = (first @ constant)[:, None]
    gram[..., 0, 2] = gram[..., 2, 0] = second @ constant
    gram[..., 1, 2] = gram[..., 2, 1] = first @ second.T
    return gram.reshape(-1, 3, 3), right.reshape(-1, 3)


def nonnegative(gram: np.ndarray, right: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Solve non-negative least squares of ``count`` ones, by the best feasible subset of columns.

    Args:
        gram: The designs' Gram matrices, (G, 3, 3).
        right: The sums of their columns, (G, 3).
        count: Rows of each design.

    Returns:
        Coefficients (G, 3) and squared errors (G,).
    """
    best, cost = np.zeros(right.shape), np.full(len(right), np.inf)
    for subset in ([0, 1, 2], [1, 2], [0, 1], [0, 2], [0], [1], [2]):
        part = gram[:, subset][:, :, subset]
        ridge = 1e-12 * np.trace(part, axis1=1, axis2=2)[:, None, None] * np.eye(len(subset))
        values = np.linalg.solve(part + ridge, right[:, subset, None])[..., 0]
        error = count - (values * right[:, subset]).sum(1)
        better = (values >= 0).all(1) & (error < cost)
        cost[better] = error[better]
        best[better] = 0.0
        best[np.ix_(better, subset)] = values[better]
    return best, cost


def huber_derivatives(
    theta: np.ndarray, n: np.ndarray, d: np.ndarray, y: np.ndarray, delta: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the sum of Huber losses of log residuals, its gradient (5,) and Hessian (5, 5)."""
    terms = _terms(theta, n, d)
    most = terms.max(0)
    share = np.exp(terms - most)
    total = share.sum(0)
    share /= total
    residual = most + np.log(total) - y
    inner = np.abs(residual) <= delta
    loss = np.where(inner, residual**2 / 2, delta * (np.abs(residual) - delta / 2)).sum()
    influence = np.clip(residual, -delta, delta)
    slopes = np.stack([share[0], share[1], share[2], -n * share[1], -d * share[2]])
    hessian = (slopes * (inner - influence)) @ slopes.T
    pull, one = influence * share, np.ones_like(n)
    for i, rows, by in ((0, [0], [one]), (1, [1, 3], [one, -n]), (2, [2, 4], [one, -d])):
        moments = np.stack(by)
        hessian[np.ix_(rows, rows)] += (moments * pull[i]) @ moments.T
    return float(loss), slopes @ influence, hessian


def _polish(
    start: np.ndarray, n: np.ndarray, d: np.ndarray, y: np.ndarray, delta: float
) -> tuple[np.ndarray, float]:
    """Minimise with a wide Huber loss first, then narrower down to ``delta``; (θ, objective)."""
    theta = start
    for width in (0.1, 0.01):
        if width > delta:
            theta = _newton(theta, n, d, y, width, NEARBY)
    theta = _newton(theta, n, d, y, delta, SETTLED)
    return theta, huber_derivatives(theta, n, d, y, delta)[0]


def _newton(
    theta: np.ndarray, n: np.ndarray, d: np.ndarray, y: np.ndarray, delta: float, settled: float
) -> np.ndarray:
    """Take Levenberg-damped Newton steps until one promises no gain, or none brings one."""
    value, gradient, hessian = huber_derivatives(theta, n, d, y, delta)
    damping = 1e-3
    for _ in range(500):
        if value <= EXACT * len(y):
            break
        values, vectors = np.linalg.eigh(hessian)
        scale = max(float(np.abs(values).max()), 1e-300)
        bend, along = np.maximum(np.abs(values), 1e-12 * scale), vectors.T @ gradient
        last = float(along @ (along / bend)) <= settled * value
        step = -vectors @ (along / (bend if last else bend + damping * scale))
        trial = theta + np.clip(step, -1.0, 1.0)
        trial[0] = max(trial[0], y.min() - 16.0)  # E = 0 lies at minus infinity
        new = huber_derivatives(trial, n, d, y, delta)
        if lower := new[0] < value:
            theta, (value, gradient, hessian) = trial, new
            damping = 0.0 if damping < 1e-13 else damping / 10
        if last or (not lower and damping > 1e3):
            break
        if not lower:
            damping = max(damping * 10, 1e-12)
    return theta
