"""The forecast: forms compared by what they predicted, the best one's values and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling import laws, returns, select
from agent_scaling.scaling.forms import LOSS_FORMS
from agent_scaling.scaling.profiles import best_of_grid, parabolas
from agent_scaling.scaling.runs import Runs
from agent_scaling.scaling.select import FEWEST, Form


def forecast_of(runs: Runs, ahead: np.ndarray, fitted: dict[str, Any]) -> dict[str, Any]:
    """``chosen``, ``validation`` and ``forecast`` at the budgets ``ahead`` (FLOPs)."""
    cells, x = runs.cells, np.log(ahead)
    flags: list[str] = fitted["flags"]
    rows: list[dict[str, Any]] = [{"flops": float(c)} for c in ahead]
    chosen: dict[str, str | None] = {"loss": None, "return": None}
    validation: dict[str, Any] = {}
    loss: Form | None = None
    for target in ("loss", "return"):
        known = runs.target(target)
        if known["flops"].nunique() < FEWEST:
            flags.append(f"no forecast of {target}: fewer than {FEWEST} budgets have it")
            continue
        forms = LOSS_FORMS if target == "loss" else returns.return_forms(loss)
        truth = best_of_grid(cells, target)
        checks = select.rolling_origin(cells, truth, forms)
        name = select.choose(checks, "power")
        chosen[target], validation[target] = name, _as_rows(checks)
        if not checks:
            flags.append(f"not validated: {target} has too few budgets to predict any from others")
        loss = forms[name] if target == "loss" else loss
        _add(rows, target, forms, name, checks, cells, x)
    _add_sizes(rows, cells, x, "loss" if chosen["loss"] else "return")
    return {"chosen": chosen, "validation": validation, "forecast": rows}


def _add(
    rows: list[dict[str, Any]],
    target: str,
    forms: Mapping[str, Form],
    name: str,
    checks: Mapping[str, select.Validation],
    cells: pd.DataFrame,
    x: np.ndarray,
) -> None:
    found = select.predict(forms, name, checks, cells, x)
    for row, mean, low, high in zip(rows, found.mean, *select.interval(found), strict=True):
        row[target] = float(np.exp(mean))
        row[f"{target}_interval"] = [float(np.exp(low)), float(np.exp(high))]


def _as_rows(checks: Mapping[str, select.Validation]) -> dict[str, Any]:
    return {
        name: {
            "mean_abs_log_error": check.mean_error,
            "error_growth": check.growth,
            "errors": check.errors[["origin", "flops", "error"]],
        }
        for name, check in checks.items()
    }


def _add_sizes(rows: list[dict[str, Any]], cells: pd.DataFrame, x: np.ndarray, target: str) -> None:
    """Optimal parameters and frames: power laws through the parabolas' minima, where enough."""
    points = parabolas(cells, target)
    points = points[~points["flag"].isin(["edge", "concave"])]
    if len(points) < FEWEST:
        points = best_of_grid(cells, target)
    for name, column in (("params", "params"), ("frames", "samples")):
        known = points[points[column] > 0]
        if len(known) < 3:
            continue
        curve = laws.fit_power(
            np.log(known["flops"].to_numpy(float)), np.log(known[column].to_numpy(float))
        )
        error = curve.standard_error(x)
        for row, mean, sd in zip(rows, curve(x), error, strict=True):
            half = laws.half_width(float(sd), curve.spare)
            row[name] = float(np.exp(mean))
            row[f"{name}_interval"] = [float(np.exp(mean - half)), float(np.exp(mean + half))]
