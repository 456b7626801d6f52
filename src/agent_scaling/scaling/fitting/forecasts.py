"""The forecast: validates forms by rolling origin, then predicts by their average or the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting import returns, select, structure
from agent_scaling.scaling.fitting.forms import LOSS_AVERAGED, LOSS_FORMS
from agent_scaling.scaling.fitting.optimal_sizes import optimal_sizes
from agent_scaling.scaling.fitting.select import AVERAGE, FEWEST, Form, Validation
from agent_scaling.scaling.laws.profiles import best_of_grid
from agent_scaling.scaling.runs.table import Runs

SIZES = 3
"""Fewest budgets whose optimal sizes are fitted by a law."""


LAW = "parametric"
"""Name of the form that forecasts where best cells are not optima."""


@dataclass(frozen=True)
class Chosen:
    """The competing forms of a target, their validation, and the name of the chosen one."""

    target: str
    forms: Mapping[str, Form]
    averaged: tuple[str, ...]
    checks: Mapping[str, Validation]
    name: str
    highest: float | None = None

    def form(self) -> Form:
        """Return the chosen form as a function."""
        return returns.averaged_loss if self.name == AVERAGE else self.forms[self.name]

    def predict(self, cells: pd.DataFrame, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the log mean, low and high at log budgets ``x``; none is above ``highest``."""
        found = select.predict_each(self.forms, self.averaged, cells, x)[self.name]
        ratio = np.exp(x) / float(cells["flops"].max())
        prior = select.PRIOR[self.target]
        parts = found.mean, *select.interval(found, self.checks.get(self.name), ratio, prior)
        if self.highest is None:
            return parts
        return tuple(np.minimum(part, np.log(self.highest)) for part in parts)


def compete(
    cells: pd.DataFrame,
    target: str,
    loss: Form | None,
    expert: float | None,
    highest: float | None = None,
) -> Chosen:
    """Validate every form of ``target`` by rolling origin and choose one.

    ``loss`` is the first stage of the two-stage forms of the return. Where the form ``expert``
    beats ``bounded``, it takes that form's place in the average. No form predicts a return above
    ``highest``.
    """
    highest = highest if target == "return" else None
    averaged: tuple[str, ...]
    if target == "loss":
        forms, averaged = LOSS_FORMS, LOSS_AVERAGED
    else:
        forms = returns.return_forms(loss, expert, highest)
        averaged = tuple(name for name in returns.RETURN_AVERAGED if name in forms)
    truth, prior = best_of_grid(cells, target), select.PRIOR[target]
    checks = select.rolling_origin(cells, truth, forms, averaged, prior)
    if "expert" in checks and checks["expert"].mean_error < checks["bounded"].mean_error:
        averaged = tuple("expert" if name == "bounded" else name for name in averaged)
        checks = select.rolling_origin(cells, truth, forms, averaged, prior)
    return Chosen(target, forms, averaged, checks, select.choose(checks), highest)


def _chosen(
    runs: Runs, target: str, loss: Chosen | None, expert: float | None, flags: list[str]
) -> Chosen:
    """Choose the form that forecasts a target; without profiles, the parametric law forecasts."""
    cells, highest = runs.cells, runs.highest
    reason = structure.layout(cells, target)
    if reason is None:
        return compete(cells, target, loss.form() if loss else None, expert, highest)
    by_law = structure.has_law(cells)
    flags.append(structure.flag(target, reason, by_law))
    if not by_law:
        return compete(cells, target, loss.form() if loss else None, expert, highest)
    if target == "loss":
        forms = {LAW: LOSS_FORMS[LAW]}
        return Chosen(target, forms, (), structure.validate_law(cells), LAW)
    forms = returns.return_forms(LOSS_FORMS[LAW], None, highest)
    stages = {name: form for name, form in forms.items() if name.startswith("two_stage")}
    return Chosen(target, stages, tuple(stages), {}, AVERAGE, highest)


def forecast_of(
    runs: Runs, ahead: np.ndarray, flags: list[str], expert: float | None = None
) -> dict[str, Any]:
    """Forecast the budgets ``ahead`` (FLOPs), by the best forms of loss and return.

    Returns ``chosen``, ``averaged``, ``validation`` and ``forecast``. Adds a line to ``flags`` for
    each target that cannot be forecast or validated.
    """
    cells, x = runs.cells, np.log(ahead)
    rows: list[dict[str, Any]] = [{"flops": float(c)} for c in ahead]
    found: dict[str, Chosen] = {}
    for target in ("loss", "return"):
        if runs.target(target)["flops"].nunique() < FEWEST:
            flags.append(f"no forecast of {target}: fewer than {FEWEST} budgets have it")
            continue
        found[target] = _chosen(runs, target, found.get("loss"), expert, flags)
        if not found[target].checks:
            flags.append(f"not validated: {target} has too few budgets to predict any from others")
        for row, mean, low, high in zip(rows, *found[target].predict(cells, x), strict=True):
            row[target] = float(np.exp(mean))
            row[f"{target}_interval"] = [float(np.exp(low)), float(np.exp(high))]
    target = "loss" if "loss" in found else "return"
    sizes = optimal_sizes(cells, x, target)
    flags += [sizes.flag] if sizes.flag else []
    for name, values in sizes.logs.items():
        for row, mean, low, high in zip(rows, *np.exp(values), strict=True):
            row[name] = float(mean)
            row[f"{name}_interval"] = [float(low), float(high)]
    return {
        "chosen": {t: found[t].name if t in found else None for t in ("loss", "return")},
        "averaged": {target: chosen.averaged for target, chosen in found.items()},
        "validation": {target: _as_rows(chosen.checks) for target, chosen in found.items()},
        "forecast": rows,
    }


def _as_rows(checks: Mapping[str, Validation]) -> dict[str, Any]:
    return {
        name: {
            "mean_abs_log_error": check.mean_error,
            "error_scale": check.scale,
            "origins": check.origins,
            "errors": check.errors,
        }
        for name, check in checks.items()
    }
