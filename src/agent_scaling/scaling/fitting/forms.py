"""Forms of L_opt(C) and R_opt(C), in one variable, that compete for the forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting.recency import RECENT, Recency, latest
from agent_scaling.scaling.fitting.select import FEWEST, Form, Prediction
from agent_scaling.scaling.laws import curves, parametric
from agent_scaling.scaling.laws.profiles import best_rows

HALVING = 1.0
"""Decades of FLOPs over which the damped form's slope halves."""

RECENCY = 0.25
"""A budget weighs C^RECENCY in the weighted saturating law."""


def series(cells: pd.DataFrame, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Return log budgets and the logs of their best cells.

    Raises:
        ValueError: Fewer than :data:`select.FEWEST` budgets.
    """
    best = best_rows(cells, target)
    if len(best) < FEWEST:
        raise ValueError(f"{len(best)} budgets; {FEWEST} are needed")
    flops, value = (cells[name].to_numpy(float)[best] for name in ("flops", target))
    return np.log(flops), np.log(value)


def _at(curve: curves.Curve, x: np.ndarray) -> Prediction:
    return Prediction(curve(x), curve.standard_error(x))


def power(
    cells: pd.DataFrame, x: np.ndarray, target: str = "loss", last: Recency | None = None
) -> Prediction:
    """Predict by a power law through the best cells of all budgets, or of the ``last`` ones."""
    at, value = series(cells, target)
    chosen = slice(-latest(at, last), None) if last else slice(None)
    return _at(curves.fit_power(at[chosen], value[chosen]), x)


def damped(cells: pd.DataFrame, x: np.ndarray, target: str = "loss") -> Prediction:
    """Predict by the latest budgets' power law, damped with the distance ahead.

    Its exponent halves every :data:`HALVING` decades, a damped trend (Gardner and McKenzie 1985).
    """
    at, value = series(cells, target)
    recent = slice(-latest(at, RECENT), None)
    curve = curves.fit_power(at[recent], value[recent])
    rate = np.log(2) / (HALVING * np.log(10))
    last = at[-1]
    ahead = np.maximum(x - last, 0.0)
    reached = np.minimum(x, last) + (1 - np.exp(-rate * ahead)) / rate
    return Prediction(curve(reached), curve.standard_error(x))


def saturating(cells: pd.DataFrame, x: np.ndarray, recency: float = 0.0) -> Prediction:
    """Predict by L∞ + a C^−γ through the best cells, each weighing C^``recency``."""
    return _at(curves.fit_saturating(*series(cells, "loss"), recency=recency), x)


@dataclass(frozen=True)
class FittedLaw:
    """The law of two variables with its errors, by the delta method over the cells.

    Attributes:
        law: The law.
        covariance: Of its parameters, (5, 5).
        noise: Standard deviation of a cell's log loss about it.
        spare: Degrees of freedom left.
    """

    law: parametric.Parametric
    covariance: np.ndarray
    noise: float
    spare: int

    def error(
        self, quantity: Callable[[parametric.Parametric], np.ndarray], noise: bool = True
    ) -> np.ndarray:
        """Return the standard error of ``quantity`` of the law, plus a new cell's ``noise``."""

        def of(theta: np.ndarray, _: np.ndarray) -> np.ndarray:
            return quantity(self.law.moved(theta))

        own = self.noise if noise else 0.0
        curve = curves.Curve(of, self.law.theta, self.covariance, own, self.spare)
        return curve.standard_error(np.zeros(1))


def fitted_law(cells: pd.DataFrame) -> FittedLaw:
    """Fit the parametric law to the cells near their budget's best.

    Raises:
        ValueError: There are too few cells, or fewer than :data:`select.FEWEST` budgets.
    """
    near = parametric.near_optimum(cells)
    if not parametric.enough(near) or near["flops"].nunique() < FEWEST:
        raise ValueError("too few cells near the optimum for five coefficients")
    law = parametric.fit_parametric(cells)
    log_n, log_d = np.log(near["params"].to_numpy(float)), np.log(near["samples"].to_numpy(float))
    residual = np.log(near["loss"].to_numpy(float)) - law.log_loss(log_n, log_d)
    spare = len(near) - 5
    variance = float((residual**2).sum() / spare)

    def of_cells(theta: np.ndarray, _: np.ndarray) -> np.ndarray:
        return law.moved(theta).log_loss(log_n, log_d)

    slopes = curves.numerical_slopes(of_cells, law.theta, log_n)
    covariance = variance * np.linalg.pinv(slopes.T @ slopes, rcond=1e-12, hermitian=True)
    return FittedLaw(law, covariance, float(np.sqrt(variance)), spare)


def two_variables(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
    """Predict the lowest L(N, D) of the budget, with the errors of the law."""
    found = fitted_law(cells)
    return Prediction(found.law.optimum(x)[0], found.error(lambda law: law.optimum(x)[0]))


LOSS_FORMS: dict[str, Form] = {
    "power": power,
    "power_recent": partial(power, last=RECENT),
    "damped": damped,
    "saturating": saturating,
    "saturating_weighted": partial(saturating, recency=RECENCY),
    "parametric": two_variables,
}
"""Forms of L_opt(C) by the names used in ``fit.json``."""

LOSS_AVERAGED = ("power_recent", "damped", "saturating")
"""Forms that are averaged: a lasting trend, a fading trend, and a law with a floor."""
