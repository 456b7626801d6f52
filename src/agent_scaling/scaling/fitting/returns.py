"""Return: against compute, against loss, bounded, and in two stages (loss law, then return)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting import forms
from agent_scaling.scaling.fitting.recency import LATEST, RECENT, Recency, latest
from agent_scaling.scaling.fitting.select import FEWEST, Form, Prediction, average
from agent_scaling.scaling.laws import curves
from agent_scaling.scaling.laws.profiles import best_of_grid


def at_loss_optimum(cells: pd.DataFrame, last: Recency | None = LATEST) -> pd.DataFrame:
    """Each budget's cell of lowest loss, where its return is known, of the ``last`` budgets.

    The return there, not the best return: the best of a grid suffers the winner's curse.

    Raises:
        ValueError: Fewer than :data:`select.FEWEST` budgets.
    """
    best = best_of_grid(cells, "loss")
    best = best[best["return"] > 0]
    if last and len(best):
        best = best.tail(latest(np.log(best["flops"].to_numpy(float)), last))
    if len(best) < FEWEST:
        raise ValueError(f"{len(best)} budgets with loss and return; {FEWEST} are needed")
    return best


def _logs(best: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return np.log(best["loss"].to_numpy(float)), np.log(best["return"].to_numpy(float))


def from_loss(cells: pd.DataFrame, last: Recency | None = LATEST) -> curves.Curve:
    """ln R = θ0 + θ1 ln L over the loss optima; θ1 is the exponent of R ∝ L^δ.

    Raises:
        ValueError: Fewer than :data:`select.FEWEST` budgets.
    """
    return curves.fit_power(*_logs(at_loss_optimum(cells, last)))


def bounded_from_loss(cells: pd.DataFrame) -> curves.Curve:
    """−ln R against −ln L: 1/R = 1/R_max + a L^γ, over the latest loss optima."""
    loss, score = _logs(at_loss_optimum(cells))
    return curves.fit_saturating(-loss, -score)


def two_stage(cells: pd.DataFrame, x: np.ndarray, loss: Form, bounded: bool = False) -> Prediction:
    """Return from the loss that ``loss`` predicts; errors of both stages add in quadrature."""
    stage = bounded_from_loss(cells) if bounded else from_loss(cells)
    sign = -1.0 if bounded else 1.0
    predicted = loss(cells, x)
    at = sign * predicted.mean
    slope = curves.slope(stage, at)
    error = np.hypot(stage.standard_error(at), slope * predicted.error)
    return Prediction(sign * stage(at), error)


def latest_returns(cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Log budgets and log best returns of the :data:`LATEST` budgets."""
    at, value = forms.series(cells, "return")
    chosen = slice(-latest(at, LATEST), None)
    return at[chosen], value[chosen]


def fit_bounded(cells: pd.DataFrame) -> curves.Curve:
    """−ln R against ln C: 1/R = 1/R_max + a C^−γ, the paper's inverse power law with offset."""
    at, value = latest_returns(cells)
    return curves.fit_saturating(at, -value)


def bounded(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
    """:func:`fit_bounded` at log budgets ``x``."""
    curve = fit_bounded(cells)
    return Prediction(-curve(x), curve.standard_error(x))


def fit_expert(cells: pd.DataFrame, expert: float) -> curves.Curve:
    """ln(1/R − 1/expert) against ln C: return that saturates at the expert's.

    Raises:
        ValueError: Fewer than :data:`select.FEWEST` of the latest budgets lie below the expert.
    """
    at, value = latest_returns(cells)
    below = value < np.log(expert)
    if below.sum() < FEWEST:
        raise ValueError(f"{below.sum()} budgets below the expert; {FEWEST} are needed")
    short = np.log(np.exp(-value[below]) - 1 / expert)
    return curves.fit_power(at[below], short)


def at_expert(cells: pd.DataFrame, x: np.ndarray, expert: float) -> Prediction:
    """:func:`fit_expert` as log returns; of its error, the share that reaches the return."""
    curve = fit_expert(cells, expert)
    short = curve(x)
    mean = -np.logaddexp(short, -np.log(expert))
    return Prediction(mean, curve.standard_error(x) * np.exp(short + mean))


def averaged_loss(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
    """The average of the loss forms, as one form."""
    return average([forms.LOSS_FORMS[name](cells, x) for name in forms.LOSS_AVERAGED])


def return_forms(loss: Form | None, expert: float | None = None) -> dict[str, Form]:
    """Forms of R_opt(C) by the names used in ``fit.json``; two stages where there is a loss law.

    ``expert`` is the return at which ``expert`` saturates; ``None``: not known, no such form.
    """
    found: dict[str, Form] = {
        "power": partial(forms.power, target="return"),
        "power_recent": partial(forms.power, target="return", last=RECENT),
        "damped": partial(forms.damped, target="return"),
        "bounded": bounded,
    }
    if expert is not None:
        found["expert"] = partial(at_expert, expert=expert)
    if loss is not None:
        found["two_stage"] = partial(two_stage, loss=loss)
        found["two_stage_bounded"] = partial(two_stage, loss=loss, bounded=True)
    return found


RETURN_AVERAGED = ("power_recent", "damped", "bounded", "two_stage_bounded")
"""What the average is of: trends that go on, fade and saturate, and what the loss implies."""
