"""Counts returns from the lowest one, so that laws hold where returns are at 0 or below.

Returns also have a highest one, if the game's rules give it: nothing that is fitted passes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.laws.lowest import Lowest, estimate_lowest

ROUNDING = 1e-6
"""Share of the highest return (of 1, where that is more) by which a mean may lie above it."""

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


def check_bounds(expert: float | None, lowest: float | None, highest: float | None) -> None:
    """Check the returns that fits of runs will be told of, before there are any runs.

    Raises:
        InputError: One is no finite number, or they contradict each other.
    """
    given = {"expert_return": expert, "lowest_return": lowest, "highest_return": highest}
    for key, value in given.items():
        if value is not None and not math.isfinite(value):
            raise InputError(f"{key}={value}: must be a finite number")
    if highest is not None and lowest is None and highest <= 0:
        raise InputError(
            f"highest_return={highest:g}: laws count returns from 0; give lowest_return=, too, "
            "below it"
        )
    for key, value in {"expert_return": expert, "highest_return": highest}.items():
        if value is not None and lowest is not None and value <= lowest:
            raise InputError(f"{key}={value:g}: give a return above lowest_return={lowest:g}")
    if expert is not None and highest is not None and expert > highest:
        raise InputError(
            f"expert_return={expert:g}: lies above highest_return={highest:g}; correct one of them"
        )


def ceiling(highest: float) -> float:
    """Return the most that a measured return may be where ``highest`` is the highest."""
    return highest + ROUNDING * max(abs(highest), 1.0)


def check_highest(rows: pd.DataFrame, origin: str, highest: float) -> None:
    """Raise :class:`InputError` where a row of ``origin`` returned more, beyond rounding."""
    over = rows[rows["return"] > ceiling(highest)]
    if len(over):
        number, row = over.index[0], over.iloc[0]
        cell = f"{row['flops']:.3g} FLOPs, {row['params']:.0f} parameters, run {row['run']}"
        raise InputError(
            f"{origin}: row {number} ({cell}) has the return {row['return']:.6g}, above "
            f"highest_return={highest:g}; correct the row or the key"
        )


def cut_returns(table: pd.DataFrame, names: Sequence[str], highest: float | None) -> pd.DataFrame:
    """Return a table whose columns ``names`` of returns end at ``highest``, where that is given."""
    return table.assign(**{name: table[name].clip(upper=highest) for name in names})


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


def moved(fitted: Mapping[str, Any], by: float, highest: float | None = None) -> dict[str, Any]:
    """Return a fit in the shape of ``fit.json`` with ``by`` added to each return that it holds.

    No return that it gives then lies above ``highest``, its new ``highest_return``.
    """
    if by == 0 and highest is None:
        return dict(fitted)
    grid, curved = fitted["best_of_grid"], fitted["parabola"]
    found = dict(fitted) | {"highest_return": highest}

    def of(points: pd.DataFrame, target: str) -> pd.DataFrame:
        names = [n for n in ("return", *(VALUES if target == "return" else ())) if n in points]
        points = points.assign(**{name: points[name] + by for name in names})
        return cut_returns(points, names, highest)

    found["best_of_grid"] = {
        target: law | {"points": of(law["points"], target)} for target, law in grid.items()
    }
    if law := curved.get("return"):
        symmetric = law["symmetric"]
        symmetric = symmetric | {"points": of(symmetric["points"], "return")}
        law = law | {"points": of(law["points"], "return"), "symmetric": symmetric}
        found["parabola"] = curved | {"return": law}
    if law := fitted["saturating"].get("return"):
        ends = {name: _add(law[name], by, highest) for name in ("R_max", "R_max_interval")}
        found["saturating"] = fitted["saturating"] | {"return": law | ends}
    if (law := fitted.get("return_against_frames")) and law["best"]:
        best = law["best"] | {"points": of(law["best"]["points"], "loss")}
        found["return_against_frames"] = law | {"best": best}
    if "forecast" in fitted:
        found["forecast"] = [moved_row(row, by, highest) for row in fitted["forecast"]]
    return found


def moved_row(row: Mapping[str, Any], by: float, highest: float | None = None) -> dict[str, Any]:
    """Return a row of a fit's ``forecast`` with ``by`` added to its returns, up to ``highest``."""
    if "return" not in row:
        return dict(row)
    found = dict(row) | {n: _add(row[n], by, highest) for n in ("return", "return_interval")}
    found["lowest_return"] = row.get("lowest_return", 0.0) + by
    if highest is not None:
        found["highest_return"] = highest
    if compared := row.get("comparison", {}).get("return"):
        compared = compared | {"measured": compared["measured"] + by}
        found["comparison"] = row["comparison"] | {"return": compared}
    return found


def _add(value: Any, by: float, highest: float | None) -> Any:
    if isinstance(value, list):
        return [_add(end, by, highest) for end in value]
    if value is None:
        return None
    return value + by if highest is None else min(value + by, highest)
