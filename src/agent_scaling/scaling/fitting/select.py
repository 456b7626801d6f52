"""Chooses a form by rolling-origin cross-validation, and calibrates intervals on its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting.recency import ROUNDING, origins
from agent_scaling.scaling.intervals import t_value

AHEAD = 1.0
"""Forms are ranked by errors up to this many decades ahead, or at the next budget if farther."""

FEWEST = 4
"""Budgets below which no form is fitted."""

AVERAGE = "average"
"""Name of the equal-weight average of forms."""

DECISIVE = 0.25
"""A single form replaces the average only where its error is below this share of the average's.
Over past hold-outs, choosing by smaller margins predicted worse than never choosing."""

DECISIVE_ORIGINS = 6
"""Fewest origins for a decisive error; the error of few origins may be small by luck."""

PRIOR = {"loss": 0.1, "return": 0.25}
"""Prior of the log error per decade ahead that noise does not explain."""

PRIOR_ORIGINS = 2.0
"""Number of origins that :data:`PRIOR` counts as."""


@dataclass(frozen=True)
class Prediction:
    """Predicted log values, and their standard errors as new points.

    ``room`` is the share of :data:`PRIOR` that holds for each: below 1 where a bound is near.
    """

    mean: np.ndarray
    error: np.ndarray
    room: np.ndarray | float = 1.0


Form = Callable[[pd.DataFrame, np.ndarray], Prediction]
"""(cells, log budgets) → :class:`Prediction`; raises ``ValueError`` where it cannot be fitted."""


@dataclass(frozen=True)
class Validation:
    """A form's predictions from lower budgets, compared with the measured values.

    Attributes:
        errors: One row per prediction: origin and flops (FLOPs), error (log predicted − log
            measured), own (the form's own standard error of the prediction).
        mean_error: Mean absolute log error up to :data:`AHEAD` decades ahead.
        scale: Root mean square of errors over those that :func:`deviation` expects, with its prior.
        origins: Number of origins behind ``scale``.
    """

    errors: pd.DataFrame
    mean_error: float
    scale: float
    origins: int


def average(predictions: Sequence[Prediction]) -> Prediction:
    """Average predictions with equal weights; the error is the median of their standard errors.

    Equal weights predict as well as fitted ones, which are themselves estimated from few errors
    (Stock and Watson 2004; Makridakis et al. 2020).
    """
    if not predictions:
        raise ValueError("no form to average can be fitted")
    mean, room = (np.mean([getattr(p, n) for p in predictions], axis=0) for n in ("mean", "room"))
    return Prediction(mean, np.median([p.error for p in predictions], axis=0), room)


def predict_each(
    forms: Mapping[str, Form], averaged: Sequence[str], cells: pd.DataFrame, x: np.ndarray
) -> dict[str, Prediction]:
    """Predict log budgets ``x`` by each form that fits ``cells``, and by :data:`AVERAGE`."""
    found: dict[str, Prediction] = {}
    for name, form in forms.items():
        try:
            found[name] = form(cells, x)
        except ValueError:
            continue
    members = [found[name] for name in averaged if name in found]
    return found | ({AVERAGE: average(members)} if members else {})


def rolling_origin(
    cells: pd.DataFrame,
    truth: pd.DataFrame,
    forms: Mapping[str, Form],
    averaged: Sequence[str],
    prior: float,
) -> dict[str, Validation]:
    """Fit each form on the lowest k budgets and predict the later ones, for each origin k.

    :func:`recency.origins` gives the origins. ``truth`` holds flops and value, the measured optimum
    of each budget. A form that cannot be fitted at some origin has an infinite error there.
    ``prior`` is the target's :data:`PRIOR`.
    """
    budgets = truth["flops"].to_numpy(float)
    measured = np.log(truth["value"].to_numpy(float))
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*forms, AVERAGE)}
    for k in origins(np.log(budgets), first_origin(len(budgets))):
        seen, later = cells[cells["flops"] <= budgets[k - 1]], budgets[k:]
        found = predict_each(forms, averaged, seen, np.log(later))
        absent = Prediction(np.full(len(later), np.inf), np.ones(len(later)))
        ahead = np.log10(later / budgets[k])
        ahead += np.minimum(np.log10(budgets[k] / budgets[k - 1]), AHEAD)
        for name, parts in rows.items():
            p = found.get(name, absent)
            error = p.mean - measured[k:]
            columns = np.broadcast_arrays(budgets[k - 1], later, error, p.error, p.room, ahead)
            parts.append(np.stack(columns, 1))
    names = ["origin", "flops", "error", "own", "room", "ahead"]
    return {
        name: validated(pd.DataFrame(np.concatenate(parts), columns=names), prior)
        for name, parts in rows.items()
        if parts
    }


def first_origin(budgets: int) -> int:
    """Return the number of budgets that the first origin is fitted on."""
    return max(FEWEST, min(5, budgets - 2))


def deviation(own: np.ndarray, ratio: np.ndarray, prior: np.ndarray | float) -> np.ndarray:
    """Return the expected size of a log error at ``ratio``, C over the origin's budget.

    A form's own standard error covers noise, but not a wrong form. The error of a wrong form grows
    with the distance ahead.
    """
    decades = np.maximum(np.log10(ratio), 0.0)
    expected: np.ndarray = np.hypot(own, prior * decades)
    return expected


def validated(errors: pd.DataFrame, prior: float) -> Validation:
    """Past errors summed up: rows of origin, flops, error, own, ahead (decades), perhaps room."""
    error, own, flops, origin = (
        errors[n].to_numpy(float) for n in ("error", "own", "flops", "origin")
    )
    near, fitted = errors["ahead"] <= AHEAD + ROUNDING, np.isfinite(error)
    room = errors["room"].to_numpy(float) if "room" in errors else 1.0
    square = pd.Series((error / deviation(own, flops / origin, prior * room)) ** 2)[fitted]
    by_origin = square.groupby(origin[fitted]).mean()  # errors of one origin are correlated
    scale = (PRIOR_ORIGINS + by_origin.sum()) / (PRIOR_ORIGINS + len(by_origin))
    columns = ["origin", "flops", "error", "own"]
    mean = float(errors["error"][near].abs().mean())
    return Validation(errors[columns], mean, float(np.sqrt(scale)), len(by_origin))


def choose(validations: Mapping[str, Validation], default: str = AVERAGE) -> str:
    """Choose the average, unless a form was decisively better.

    ``default`` is returned where nothing was validated.
    """
    known = {n: v.mean_error for n, v in validations.items() if np.isfinite(v.mean_error)}
    if not known:
        return default
    best = min(known, key=known.__getitem__)
    if AVERAGE not in known:
        return best
    many = validations[best].origins >= DECISIVE_ORIGINS
    return best if many and known[best] < DECISIVE * known[AVERAGE] else AVERAGE


def interval(
    found: Prediction, check: Validation | None, ratio: np.ndarray, prior: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of :data:`intervals.LEVEL` around log predictions.

    ``ratio`` is C over the highest fitted budget. The expected deviation is scaled by the size of
    past errors. The t-interval has one degree of freedom for each origin, and
    :data:`PRIOR_ORIGINS` for the prior.
    """
    scale, origins = (check.scale, check.origins) if check else (1.0, 0)
    spread = scale * deviation(found.error, ratio, prior * found.room)
    half = t_value(PRIOR_ORIGINS + origins) * spread
    return found.mean - half, found.mean + half
