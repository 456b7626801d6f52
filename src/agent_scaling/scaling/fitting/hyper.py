"""Fits the laws of the learning rate and the batch to rows of runs that differ in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws.hyper import FEWEST, Surface, fit_surface

SETTINGS = ("lr", "batch")
"""Columns of the settings that have laws."""

CELL = ["flops", "params"]

EDGE = 0.5
"""Share of cells that are best at an end of their settings from which a flag says so."""


def setting_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Average rows into one per cell and setting; return them and the settings that vary.

    Only rows of their cell's most distinct frames count. A setting varies where two cells or more
    have :data:`FEWEST` values of it.
    """
    if not len(rows) or rows[list(SETTINGS)].isna().all(axis=None):
        return rows[:0], []
    most = rows.groupby(CELL)["unique"].transform("max")
    known = rows[(rows["loss"] > 0) & (rows["samples"] > 0)]
    known = known[most.isna() | (rows["unique"] >= most)]
    names = [
        name
        for name in SETTINGS
        if (known.groupby(CELL)[name].nunique() >= FEWEST).sum() >= 2 and (known[name] > 0).any()
    ]
    for name in names:
        known = known[known[name] > 0]
    if not names:
        return rows[:0], []
    known = known.assign(loss=np.log(known["loss"]))
    cells = known.groupby([*CELL, *names])[["samples", "loss"]].mean().reset_index()
    cells["loss"] = np.exp(cells["loss"])
    return cells, names


def surface(rows: pd.DataFrame) -> Surface | None:
    """Fit the law of the settings that vary within the cells of ``rows``; ``None``: there is none.

    ``rows`` has the columns of :data:`agent_scaling.scaling.runs.table.COLUMNS`.
    """
    cells, names = setting_rows(rows)
    return fit_surface(cells, names) if names else None


def hyper(rows: pd.DataFrame, flags: list[str]) -> dict[str, Any] | None:
    """Fit the law of the settings, in the shape of ``fit.json``; a line in ``flags`` for a doubt.

    ``settings`` holds each setting's best value at ``params`` and ``frames`` (the geometric means
    of the cells'), its exponents of N and D where these vary, and intervals; ``critical_batch`` the
    batch there at which 1.2 times the frames are needed for one loss.
    """
    cells, names = setting_rows(rows)
    if not names:
        return None
    law = fit_surface(cells, names)
    if law is None:
        flags.append(f"no law of {' and '.join(names)}: their values show no minimum, or are few")
        return None
    params, frames = (float(value) for value in np.exp(law.centre))
    best, powers, found = law.best(params, frames), law.exponents(), dict[str, Any]()
    for name in names:
        value, low, high = best[name]
        found[name] = {"value": value, "interval": [low, high]}
        for term, (power, low, high) in powers[name].items():
            found[name] |= {f"{term}_exponent": power, f"{term}_interval": [low, high]}
        if _at_ends(cells, name) > EDGE:
            flags.append(f"edge: {name}: most cells are best at the end of its values")
    critical = law.critical_batch(params, frames)
    shared = {"params": params, "frames": frames, "residual_sd": law.noise, "cells": law.cells}
    return shared | {
        "settings": found,
        "critical_batch": critical and {"value": critical[0], "interval": list(critical[1:])},
    }


def _at_ends(cells: pd.DataFrame, name: str) -> float:
    """Return the share of cells that are best at their least or largest value of a setting."""
    groups = cells.groupby(CELL)
    best = cells.loc[groups["loss"].idxmin()].set_index(CELL)[name]
    ends = groups[name].agg(["min", "max"])
    return float(((best == ends["min"]) | (best == ends["max"])).mean())
