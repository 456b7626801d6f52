"""Choosing a form by rolling-origin cross-validation, and intervals calibrated on its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from agent_scaling.scaling.profiles import LEVEL

AHEAD = 3
"""Budgets that each origin predicts: about a decade on the usual grid 1, 2, 5, 10."""

FEWEST = 4
"""Budgets below which no form is fitted."""

RECENCY = 3.0
"""An origin weighs C^3: what extrapolated well from the latest budgets is what will be asked."""

GROWTH_RECENCY = 1.5
"""An origin weighs C^1.5 in the growth of errors: widths need more errors than a ranking does."""


@dataclass(frozen=True)
class Prediction:
    """Log values at log budgets, their standard errors as points, and degrees of freedom."""

    mean: np.ndarray
    error: np.ndarray
    spare: int


Form = Callable[[pd.DataFrame, np.ndarray], Prediction]
"""(cells, log budgets) → :class:`Prediction`; raises ``ValueError`` where it cannot be fitted."""


@dataclass(frozen=True)
class Validation:
    """What a form predicted from the lower budgets, against what was then measured.

    Attributes:
        errors: One row per prediction: origin and flops (FLOPs), error (log predicted − log
            measured).
        mean_error: Mean absolute log error, origins weighed by :data:`RECENCY`.
        growth: Root mean square of error per unit of log budget ahead of the origin.
    """

    errors: pd.DataFrame
    mean_error: float
    growth: float


def rolling_origin(
    cells: pd.DataFrame, truth: pd.DataFrame, forms: Mapping[str, Form]
) -> dict[str, Validation]:
    """Fit each form on the lowest k budgets, predict the next :data:`AHEAD`, for every k.

    ``truth`` holds flops and value, the measured optimum of each budget. A form that cannot be
    fitted at some origin is infinitely wrong there.
    """
    budgets = truth["flops"].to_numpy(float)
    measured = np.log(truth["value"].to_numpy(float))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in forms}
    for k in range(first_origin(len(budgets)), len(budgets)):
        seen = cells[cells["flops"] <= budgets[k - 1]]
        ahead = np.log(budgets[k : k + AHEAD])
        for name, form in forms.items():
            rows[name] += _predict(form, seen, ahead, measured[k : k + AHEAD], budgets[k - 1])
    return {name: _validate(pd.DataFrame(r), budgets[-1]) for name, r in rows.items() if r}


def first_origin(budgets: int) -> int:
    """Budgets that the first origin is fitted on."""
    return max(FEWEST, min(5, budgets - 2))


def _predict(
    form: Form, seen: pd.DataFrame, ahead: np.ndarray, truth: np.ndarray, origin: float
) -> list[dict[str, float]]:
    try:
        error = form(seen, ahead).mean - truth
    except ValueError:
        error = np.full(len(ahead), np.inf)
    columns = zip(np.exp(ahead), error, strict=True)
    return [{"origin": origin, "flops": float(c), "error": float(e)} for c, e in columns]


def _validate(errors: pd.DataFrame, last: float) -> Validation:
    weight = (errors["origin"] / last) ** RECENCY
    mean = float((weight * errors["error"].abs()).sum() / weight.sum())
    fitted = errors[np.isfinite(errors["error"])]
    rate = fitted["error"] / np.log(fitted["flops"] / fitted["origin"])
    weight = (fitted["origin"] / last) ** GROWTH_RECENCY
    growth = np.sqrt((weight * rate**2).sum() / weight.sum()) if len(fitted) else np.nan
    return Validation(errors, mean, float(growth))


def choose(validations: Mapping[str, Validation], default: str) -> str:
    """The form with the smallest mean error; ``default`` where nothing could be validated."""
    known = {n: v.mean_error for n, v in validations.items() if np.isfinite(v.mean_error)}
    return min(known, key=known.__getitem__) if known else default


def predict(
    forms: Mapping[str, Form],
    name: str,
    checks: Mapping[str, Validation],
    cells: pd.DataFrame,
    x: np.ndarray,
) -> Prediction:
    """The form ``name`` at log budgets ``x``, its standard errors calibrated on its validation.

    A form's own standard error knows noise, but not that the form is wrong: what it was wrong by
    grew with the distance ahead, and is added in quadrature at that rate.
    """
    found = forms[name](cells, x)
    growth = checks[name].growth if name in checks else np.nan
    ahead = np.maximum(x - np.log(float(cells["flops"].max())), 0.0)
    error = np.hypot(found.error, np.nan_to_num(growth) * ahead)
    return Prediction(found.mean, error, found.spare)


def interval(found: Prediction, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Low and high log values of a t-interval."""
    half = stats.t.ppf((1 + level) / 2, max(found.spare, 1)) * found.error
    return found.mean - half, found.mean + half
