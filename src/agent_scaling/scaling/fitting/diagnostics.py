"""Diagnostics of the fits: noise of repeated runs, leverage, residuals, and lowest budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws import curves, parametric
from agent_scaling.scaling.laws.profiles import best_of_grid
from agent_scaling.scaling.runs.table import Runs

FEWEST = 5
"""Fewest budgets to which a saturating law is fitted again without the lowest."""


def diagnostics(runs: Runs, fitted: dict[str, Any]) -> dict[str, Any]:
    """Return noise by target, each budget's influence, and the laws without the lowest budgets."""
    targets = list(fitted["best_of_grid"])
    found: dict[str, Any] = {"noise": {target: noise(runs.rows, target) for target in targets}}
    found["budgets"] = {t: _influence(fitted["best_of_grid"][t]) for t in targets}
    if "loss" in targets:
        found["saturating_without_lowest"] = _saturating_without_lowest(runs.cells)
    if law := fitted.get("parametric"):
        found["parametric_minima"] = law["minima"]
        found["parametric_residuals"] = _parametric_residuals(runs.cells)
    return found


def noise(rows: pd.DataFrame, target: str) -> dict[str, Any] | None:
    """Pool the standard deviation of the log target between runs of one cell.

    The halves of the cells with the lower and the higher target are also pooled separately, since
    the noise may differ. ``None`` where no cell was run twice.
    """
    known = rows[rows[target] > 0]
    logs = np.log(known[target]).groupby([known["flops"], known["params"]])
    cells = pd.DataFrame({"mean": logs.mean(), "spare": logs.count() - 1, "var": logs.var()})
    cells = cells[cells["spare"] > 0]
    if cells.empty:
        return None
    low = cells["mean"] <= cells["mean"].median()
    parts = {"log_sd": cells, "log_sd_of_lower": cells[low], "log_sd_of_higher": cells[~low]}
    pooled = {name: _pooled(part) for name, part in parts.items()}
    return pooled | {"cells": len(cells), "spare": int(cells["spare"].sum())}


def _pooled(cells: pd.DataFrame) -> float:
    spare = cells["spare"].sum()
    return float(np.sqrt((cells["var"] * cells["spare"]).sum() / spare)) if spare else float("nan")


def _influence(best: dict[str, Any]) -> list[dict[str, Any]]:
    """List the residual and leverage of each budget's best cell in the power laws."""
    rows = [{"flops": float(flops)} for flops in best["points"]["flops"]]
    for name in ("N_opt", "D_opt", "optimum"):
        law = best[name]
        if law and len(law["residuals"]) == len(rows):
            for row, residual, leverage in zip(
                rows, law["residuals"], law["leverage"], strict=True
            ):
                row |= {f"{name}_residual": float(residual), "leverage": float(leverage)}
    return rows


def _saturating_without_lowest(cells: pd.DataFrame) -> list[dict[str, float]]:
    """Fit L∞ and γ without the 1, 2, 3 … lowest budgets."""
    best = best_of_grid(cells, "loss")
    x, y = np.log(best["flops"].to_numpy(float)), np.log(best["loss"].to_numpy(float))
    rows = []
    for k in range(1, len(x) - FEWEST + 1):
        curve = curves.fit_saturating(x[k:], y[k:])
        floor = float(np.exp(curve.theta[0])) if curves.has_floor(curve, x.max()) else 0.0
        lowest = float(best["flops"].iloc[k])
        rows.append({"lowest": lowest, "L_inf": floor, "gamma": float(curve.theta[2])})
    return rows


def _parametric_residuals(cells: pd.DataFrame) -> list[dict[str, float]]:
    """List the root mean square log residual of the parametric law by budget."""
    near, law = parametric.near_optimum(cells), parametric.fit_parametric(cells)
    size, frames = (np.log(near[name].to_numpy(float)) for name in ("params", "samples"))
    square = (np.log(near["loss"].to_numpy(float)) - law.log_loss(size, frames)) ** 2
    flops = near["flops"].to_numpy(float)
    return [
        {"flops": float(c), "rms": float(np.sqrt(square[flops == c].mean()))}
        for c in np.unique(flops)
    ]
