"""Fits the laws of repeated data beside each other, and says what more games would buy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws import repeated as laws
from agent_scaling.scaling.laws.parametric import NEAR

FEWEST = 10
"""Cells below which no law of repeated data is fitted."""

REPEATED, OFTEN = 1.5, 3
"""Passes from which a cell counts as repeated, and the fewest of such cells."""

MORE = (1.0, 2.0, 4.0, 10.0)
"""Factors by which the number of distinct games is raised to see what they would buy."""


def repeated_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Average rows into cells of (flops, params, unique); those near their budget's best loss.

    ``rows`` has the columns of :data:`agent_scaling.scaling.runs.table.COLUMNS`.
    """
    keys = ["flops", "params", "unique"]
    if not len(rows):
        return pd.DataFrame(columns=[*keys, "samples", "loss"], dtype=float)
    known = rows[(rows["loss"] > 0) & (rows["samples"] > 0) & (rows["unique"] > 0)]
    known = known.assign(loss=np.log(known["loss"]))
    cells = known.groupby(keys)[["samples", "loss"]].mean().reset_index()
    cells["loss"] = np.exp(cells["loss"])
    best = cells.groupby(["flops", "unique"])["loss"].transform("min")
    return cells[cells["loss"] <= NEAR * best].reset_index(drop=True)


def enough(cells: pd.DataFrame) -> bool:
    """Return True where cells can tell what repetition costs."""
    often = (cells["samples"] > REPEATED * cells["unique"]).sum()
    return (
        len(cells) >= FEWEST
        and often >= OFTEN
        and cells["params"].nunique() >= 2
        and cells["unique"].nunique() >= 2
        and bool(np.ptp(np.log(cells["loss"])) > 0)
    )


def repeated(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Fit every form of :data:`laws.FORMS`; ``None`` where the rows do not suffice.

    Each form has its coefficients with t-intervals, ``residual_sd`` and ``held_out_error``: the
    mean absolute log error on the quarter of the cells with the most passes, fitted on the others
    (``None`` where too few are left). ``chosen`` has the lowest held-out error, else the lowest
    residuals.
    """
    cells = repeated_cells(rows)
    if not enough(cells):
        return None
    found: dict[str, Any] = {}
    for name in laws.FORMS:
        law = laws.fit_repeated(cells, name)
        own = {"residual_sd": law.noise, "held_out_error": _held_out(cells, name)}
        found[name] = law.coefficients() | own
    judged = all(law["held_out_error"] is not None for law in found.values())
    by = "held_out_error" if judged else "residual_sd"
    chosen = min(found, key=lambda name: float(found[name][by]))
    return {"forms": found, "chosen": chosen, "cells": len(cells)}


def _held_out(cells: pd.DataFrame, name: str) -> float | None:
    passes = cells["samples"] / cells["unique"]
    last = passes >= passes.quantile(0.75)
    if not enough(cells[~last]):
        return None
    law = laws.fit_repeated(cells[~last], name)
    columns = ("params", "samples", "unique", "loss")
    size, frames, unique, loss = (np.log(cells[last][c].to_numpy(float)) for c in columns)
    return float(np.abs(law.log_loss(size, frames, unique) - loss).mean())


def more_games(rows: pd.DataFrame, name: str, budget: float, unique: float) -> list[dict[str, Any]]:
    """Find the best size at ``budget`` FLOPs with ``unique`` distinct frames, and with more.

    Returns:
        A row for each factor of :data:`MORE` and one for data that never repeats (``unique``
        infinite): ``params``, ``frames``, ``passes`` and ``loss``, each with its interval.
    """
    law = laws.fit_repeated(repeated_cells(rows), name)
    found = []
    for factor in (*MORE, np.inf):
        distinct = min(unique * factor, budget)  # a frame costs more than one FLOP
        row: dict[str, Any] = {"flops": float(budget), "unique": unique * factor}
        for key, (value, low, high) in law.best(np.log(budget), np.log(distinct)).items():
            row |= {key: value, f"{key}_interval": [low, high]}
        found.append(row)
    return found
