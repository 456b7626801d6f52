"""Laws of the return: against compute, against loss, bounded, and in two stages via the loss."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting import forms
from agent_scaling.scaling.fitting.recency import LATEST, RECENT, Recency, latest
from agent_scaling.scaling.fitting.select import FEWEST, Form, Prediction, average
from agent_scaling.scaling.laws import bound, curves
from agent_scaling.scaling.laws.profiles import best_of_grid


def at_loss_optimum(cells: pd.DataFrame, last: Recency | None = LATEST) -> pd.DataFrame:
    """Select the cell of lowest loss of the ``last`` budgets, where its return is known.

    The return of that cell is used, not the budget's best return, which the winner's curse biases.

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
    """Fit ln R = θ0 + θ1 ln L to the loss optima; θ1 is the exponent δ of R ∝ L^δ.

    Raises:
        ValueError: Fewer than :data:`select.FEWEST` budgets.
    """
    return curves.fit_power(*_logs(at_loss_optimum(cells, last)))


def bounded_from_loss(cells: pd.DataFrame) -> curves.Curve:
    """Fit 1/R = 1/R_max + a L^γ to the latest loss optima, as −ln R against −ln L."""
    loss, score = _logs(at_loss_optimum(cells))
    return curves.fit_saturating(-loss, -score)


def two_stage(cells: pd.DataFrame, x: np.ndarray, loss: Form, bounded: bool = False) -> Prediction:
    """Predict return from the loss that ``loss`` predicts; the errors add in quadrature."""
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
    """Fit 1/R = 1/R_max + a C^−γ, the paper's inverse power law with offset, as −ln R on ln C."""
    at, value = latest_returns(cells)
    return curves.fit_saturating(at, -value)


def bounded(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
    """Predict by :func:`fit_bounded` at log budgets ``x``."""
    curve = fit_bounded(cells)
    return Prediction(-curve(x), curve.standard_error(x))


def fit_expert(cells: pd.DataFrame, expert: float) -> curves.Curve:
    """Fit ln(1/R − 1/expert) on ln C, a return that saturates at the expert's.

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
    """Predict log returns by :func:`fit_expert`, with its error propagated to them."""
    curve = fit_expert(cells, expert)
    short = curve(x)
    mean = -np.logaddexp(short, -np.log(expert))
    return Prediction(mean, curve.standard_error(x) * np.exp(short + mean))


def stretched(cells: pd.DataFrame, highest: float | None) -> pd.DataFrame:
    """Return cells whose returns have no bound (:mod:`laws.bound`); themselves without a bound."""
    if highest is None:
        return cells
    return cells.assign(**{"return": bound.stretch(cells["return"], highest)})


def below(form: Form, highest: float) -> Form:
    """Return a form of R̃ as one of returns, which never predicts one above ``highest``.

    Near the bound, log errors of returns are small: the form's own shrink by the slope of ln R
    against ln R̃, 1 − R/H; what no form foresees by its root, as errors of a share do.
    """

    def predict(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
        found = form(stretched(cells, highest), x)
        mean = bound.squeeze(found.mean, highest)
        left = bound.room(mean, highest)
        return Prediction(mean, found.error * left, np.sqrt(np.maximum(left, bound.MARGIN)))

    return predict


def averaged_loss(cells: pd.DataFrame, x: np.ndarray) -> Prediction:
    """Predict the loss by the average of the loss forms."""
    return average([forms.LOSS_FORMS[name](cells, x) for name in forms.LOSS_AVERAGED])


def return_forms(
    loss: Form | None, expert: float | None = None, highest: float | None = None
) -> dict[str, Form]:
    """Return the forms of R_opt(C) by their names in ``fit.json``.

    The two-stage forms need a form of the ``loss``. The form ``expert`` saturates at the return
    ``expert``; it is absent where that is ``None``, or is the ``highest`` return, at which all
    forms saturate.
    """
    if highest is not None:
        short = expert is not None and expert < highest * (1 - bound.MARGIN)
        reached = float(bound.stretch(expert, highest)) if expert is not None and short else None
        free = return_forms(loss, reached)
        return {name: below(form, highest) for name, form in free.items()}
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
"""Forms that are averaged: a lasting, a fading and a saturating trend, and one via the loss."""
