"""Return: against compute, against loss, and in two stages (loss law, then return from loss)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from agent_scaling.scaling import forms, laws
from agent_scaling.scaling.profiles import best_of_grid
from agent_scaling.scaling.select import FEWEST, Form, Prediction

LATEST = 6
"""Budgets whose loss optima carry the relation of return to loss."""


def at_loss_optimum(cells: pd.DataFrame, latest: int | None = LATEST) -> pd.DataFrame:
    """Each budget's cell of lowest loss, where its return is known, of the ``latest`` budgets.

    The return there, not the best return: the best of a grid suffers the winner's curse.
    """
    best = best_of_grid(cells, "loss")
    best = best[best["return"] > 0]
    return best.tail(latest) if latest else best


def from_loss(cells: pd.DataFrame, latest: int | None = LATEST) -> laws.Curve:
    """ln R = θ0 + θ1 ln L over the loss optima; θ1 is the exponent of R ∝ L^δ.

    Raises:
        ValueError: Fewer than :data:`FEWEST` budgets.
    """
    best = at_loss_optimum(cells, latest)
    if len(best) < FEWEST:
        raise ValueError(f"{len(best)} budgets with loss and return; {FEWEST} are needed")
    return laws.fit_power(np.log(best["loss"].to_numpy(float)), np.log(best["return"].to_numpy()))


def two_stage(cells: pd.DataFrame, x: np.ndarray, loss: Form) -> Prediction:
    """Return from the loss that ``loss`` predicts; errors of both stages add in quadrature."""
    stage = from_loss(cells)
    predicted = loss(cells, x)
    slope = float(stage.theta[1])
    error = np.hypot(stage.standard_error(predicted.mean), slope * predicted.error)
    return Prediction(stage(predicted.mean), error, min(stage.spare, predicted.spare))


def return_forms(loss: Form | None) -> dict[str, Form]:
    """Forms of R_opt(C) by the names used in ``fit.json``; two stages where there is a loss law."""
    found: dict[str, Form] = {
        "power": partial(forms.power, target="return"),
        "power_recent": partial(forms.power, target="return", last=forms.RECENT),
    }
    return found | ({"two_stage": partial(two_stage, loss=loss)} if loss else {})
