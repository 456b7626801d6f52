"""Counts returns from the lowest one, so that laws hold where returns are at 0 or below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.laws.lowest import Lowest, estimate_lowest

RETURNS = ("return", "return_low", "return_high")
VALUES = ("value", "value_low", "value_high")


def lowest_of(cells: pd.DataFrame, given: float | None) -> Lowest | None:
    """Return the return that laws count from: ``given``, or an estimate where one is below 0.

    ``None``, laws of the return itself, where no cell's mean lies below 0.

    Raises:
        InputError: No cell's return lies above ``given``.
    """
    known = cells[cells["return"].notna()]
    if given is not None:
        if len(known) and not (known["return"] > given).any():
            raise InputError(f"lowest_return={given:g}: no return lies above it; give a lower one")
        return Lowest(float(given))
    if not (known["return"] < 0).any():
        return None
    best = known.loc[known.groupby("flops")["return"].idxmax()]
    at, value, error = (best[name].to_numpy(float) for name in ("flops", "return", "return_se"))
    return estimate_lowest(np.log(at), value, error, float(known["return"].min()))


def flag_lowest(lowest: Lowest | None, given: float | None) -> list[str]:
    """Return a flag where the return that laws count from was estimated."""
    if lowest is None or given is not None:
        return []
    span = "" if lowest.interval is None else " [{:.3g}, {:.3g}]".format(*lowest.interval)
    about = "give the game's own as lowest_return="
    return [f"returns below 0: laws count from {lowest.value:.4g}{span}, an estimate; {about}"]


def as_fitted(lowest: Lowest | None) -> dict[str, Any] | None:
    """Return the entry ``lowest_return`` of ``fit.json``."""
    return {"value": lowest.value, "interval": lowest.interval} if lowest else None


def zero_of(fitted: Mapping[str, Any]) -> float:
    """Return the return that the laws of a fit in the shape of ``fit.json`` count from."""
    found = fitted.get("lowest_return")
    return float(found["value"]) if found else 0.0


def moved(fitted: Mapping[str, Any], by: float) -> dict[str, Any]:
    """Return a fit in the shape of ``fit.json`` with ``by`` added to each return that it holds."""
    if by == 0:
        return dict(fitted)
    grid, curved = fitted["best_of_grid"], fitted["parabola"]
    found = dict(fitted)
    found["best_of_grid"] = {
        target: law | {"points": _points(law["points"], target, by)} for target, law in grid.items()
    }
    if law := curved.get("return"):
        symmetric = law["symmetric"]
        symmetric = symmetric | {"points": _points(symmetric["points"], "return", by)}
        law = law | {"points": _points(law["points"], "return", by), "symmetric": symmetric}
        found["parabola"] = curved | {"return": law}
    if law := fitted["saturating"].get("return"):
        ends = {name: _add(law[name], by) for name in ("R_max", "R_max_interval")}
        found["saturating"] = fitted["saturating"] | {"return": law | ends}
    if (law := fitted.get("return_against_frames")) and law["best"]:
        best = law["best"] | {"points": _points(law["best"]["points"], "loss", by)}
        found["return_against_frames"] = law | {"best": best}
    if "forecast" in fitted:
        found["forecast"] = [moved_row(row, by) for row in fitted["forecast"]]
    return found


def moved_row(row: Mapping[str, Any], by: float) -> dict[str, Any]:
    """Return a row of a fit's ``forecast`` with ``by`` added to its returns."""
    if "return" not in row:
        return dict(row)
    found = dict(row) | {n: _add(row[n], by) for n in ("return", "return_interval")}
    found["lowest_return"] = row.get("lowest_return", 0.0) + by
    if compared := row.get("comparison", {}).get("return"):
        compared = compared | {"measured": compared["measured"] + by}
        found["comparison"] = row["comparison"] | {"return": compared}
    return found


def _points(points: pd.DataFrame, target: str, by: float) -> pd.DataFrame:
    names = ["return", *(VALUES if target == "return" else ())]
    held = [name for name in names if name in points]
    return points.assign(**{name: points[name] + by for name in held})


def _add(value: Any, by: float) -> Any:
    if isinstance(value, list):
        return [_add(end, by) for end in value]
    return value if value is None else value + by
