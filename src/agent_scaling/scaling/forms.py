"""The forms of L_opt(C) that compete for the forecast."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from agent_scaling.scaling import laws, parametric
from agent_scaling.scaling.profiles import best_of_grid
from agent_scaling.scaling.select import FEWEST, Form, Prediction

RECENT = 4
"""Budgets of the power law of the latest budgets alone."""

RECENCY = 0.25
"""A budget weighs C^RECENCY in the weighted saturating law."""


def _series(cells: pd.DataFrame, target: str) -> tuple[np.ndarray, np.ndarray]:
    best = best_of_grid(cells, target)
    if len(best) < FEWEST:
        raise ValueError(f"{len(best)} budgets; {FEWEST} are needed")
    return np.log(best["flops"].to_numpy(float)), np.log(best["value"].to_numpy(float))


def _at(curve: laws.Curve, x: np.ndarray) -> Prediction:
    return Prediction(curve(x), curve.standard_error(x), curve.spare)


def power(
    cells: pd.DataFrame, x: np.ndarray, target: str = "loss", last: int | None = None
) -> Prediction:
    """A power law through the best cells of all budgets, or of the ``last`` ones."""
    at, value = _series(cells, target)
    return _at(laws.fit_power(at[-last:], value[-last:]) if last else laws.fit_power(at, value), x)


def saturating(cells: pd.DataFrame, x: np.ndarray, recency: float = 0.0) -> Prediction:
    """L∞ + a C^−γ through the best cells, each weighing C^``recency``."""
    return _at(laws.fit_saturating(*_series(cells, "loss"), recency=recency), x)


def two_variables(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
    """The lowest L(N, D) on the budget; its error by the delta method over the cells."""
    near = parametric.near_optimum(cells)
    if len(near) < 8 or near["params"].nunique() < 3 or near["flops"].nunique() < FEWEST:
        raise ValueError("too few cells near the optimum for five coefficients")
    law = parametric.fit_parametric(cells)
    log_n, log_d = np.log(near["params"].to_numpy(float)), np.log(near["samples"].to_numpy(float))
    residual = np.log(near["loss"].to_numpy(float)) - law.log_loss(log_n, log_d)
    spare = len(near) - 5
    variance = float((residual**2).sum() / spare)

    def of_cells(theta: np.ndarray, _: np.ndarray) -> np.ndarray:
        return law.moved(theta).log_loss(log_n, log_d)

    def of_budgets(theta: np.ndarray, at: np.ndarray) -> np.ndarray:
        return law.moved(theta).optimum(at)[0]

    slopes = laws.numerical_slopes(of_cells, law.theta, x)
    covariance = variance * np.linalg.pinv(slopes.T @ slopes, rcond=1e-12, hermitian=True)
    curve = laws.Curve(of_budgets, law.theta, covariance, float(np.sqrt(variance)), spare)
    return _at(curve, x)


LOSS_FORMS: dict[str, Form] = {
    "power": power,
    "power_recent": partial(power, last=RECENT),
    "saturating": saturating,
    "saturating_weighted": partial(saturating, recency=RECENCY),
    "parametric": two_variables,
}
"""Forms of L_opt(C) by the names used in ``fit.json``."""
