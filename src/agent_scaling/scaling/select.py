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

PRIOR = 2.0
"""Origins' worth of trust that a form's own standard errors are right, when they are calibrated."""


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
            measured), score (the error as a standard normal, by its own standard error).
        mean_error: Mean absolute log error, origins weighed by :data:`RECENCY`.
        inflation: Factor on the form's standard errors that its scores call for, at least 1.
    """

    errors: pd.DataFrame
    mean_error: float
    inflation: float


def rolling_origin(
    cells: pd.DataFrame, truth: pd.DataFrame, forms: Mapping[str, Form]
) -> dict[str, Validation]:
    """Fit each form on the lowest k budgets, predict the next :data:`AHEAD`, for every k.

    ``truth`` holds flops and value, the measured optimum of each budget. A form that cannot be
    fitted at some origin is scored there as badly as the worst of the others.
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
        found = form(seen, ahead)
    except ValueError:
        return [
            {"origin": origin, "flops": float(np.exp(x)), "error": np.inf, "score": np.nan}
            for x in ahead
        ]
    error = found.mean - truth
    with np.errstate(invalid="ignore", divide="ignore"):
        tail = stats.t.sf(np.abs(error) / found.error, max(found.spare, 1))
    score = np.abs(stats.norm.isf(np.maximum(tail, 1e-300)))
    columns = zip(np.exp(ahead), error, score, strict=True)
    return [
        {"origin": origin, "flops": float(c), "error": float(e), "score": float(s)}
        for c, e, s in columns
    ]


def _validate(errors: pd.DataFrame, last: float) -> Validation:
    weight = (errors["origin"] / last) ** RECENCY
    mean = float((weight * errors["error"].abs()).sum() / weight.sum())
    squares = (errors["score"] ** 2).groupby(errors["origin"]).mean().dropna()
    inflation = np.sqrt((PRIOR + squares.sum()) / (PRIOR + len(squares)))
    return Validation(errors, mean, float(max(1.0, inflation)))


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
    """The form ``name`` at log budgets ``x``, its standard errors calibrated on its validation."""
    found = forms[name](cells, x)
    inflation = checks[name].inflation if name in checks else 1.0
    return Prediction(found.mean, found.error * inflation, found.spare)


def interval(found: Prediction, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Low and high log values of a t-interval."""
    half = stats.t.ppf((1 + level) / 2, max(found.spare, 1)) * found.error
    return found.mean - half, found.mean + half
