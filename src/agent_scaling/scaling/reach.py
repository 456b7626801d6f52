"""Inverts a forecast: the budget, size and frames at which a loss or a return is reached."""

from __future__ import annotations

from typing import Any

import numpy as np

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fitting.lowest import forecast_above
from agent_scaling.scaling.laws.profiles import best_of_grid
from agent_scaling.scaling.runs.table import Runs

WITHIN = 1000.0
"""Factor beyond the highest measured budget up to which a target is looked for."""

STEPS = 121
"""Budgets of a forecast that is inverted, evenly spaced in logarithms."""


def reach(
    runs: Runs,
    target: str,
    value: float,
    expert: float | None = None,
    within: float | None = None,
) -> dict[str, Any]:
    """Find the least budget at which the best run is forecast to reach ``value``.

    Args:
        runs: The measured runs.
        target: ``loss`` or ``return``.
        value: A loss to fall to, or a return to rise to, above the one that laws count from and
            not above the highest one.
        expert: Return at which the form ``expert`` saturates.
        within: Highest budget considered, FLOPs; ``None``: :data:`WITHIN` times the highest one.

    Returns:
        ``flops``, ``params`` and ``frames`` where it is reached, ``None`` each where that is not
        ``within``, with their 90 % intervals. The budgets of the interval are those whose own
        forecast's interval holds ``value``; an upper end beyond ``within`` is infinite. Sizes and
        frames go from the lower end of their interval at the least of these budgets to the upper
        end at the largest. ``measured`` is True where a measured run has reached it: the row is
        then that cell, without intervals.

    Raises:
        InputError: ``value`` or ``within`` cannot be used, or the target cannot be forecast.
    """
    zero = runs.zero if target == "return" else 0.0
    if not value > zero:
        raise InputError(f"{target}={value:g}: give a {target} above {zero:g}")
    if target == "return" and runs.highest is not None and value > runs.highest:
        raise InputError(f"return={value:g}: lies above highest_return={runs.highest:g}")
    best = best_of_grid(runs.counted().cells, target)
    if not len(best):
        raise InputError(f"{target}={value:g}: no run has a {target} to forecast from")
    last = float(best["flops"].max())
    limit = WITHIN * last if within is None else float(within)
    if not limit > last:
        raise InputError(f"within={limit:g}: give FLOPs above the highest budget, {last:g}")
    found: dict[str, Any] = {"target": target, "value": float(value), "within": limit}
    above = value - zero
    reached = best["value"] <= above if target == "loss" else best["value"] >= above
    if reached.any():
        cell = best[reached].iloc[0]
        row = {"flops": cell["flops"], "params": cell["params"], "frames": cell["samples"]}
        return found | {"measured": True} | {name: float(v) for name, v in row.items()}
    rows = forecast_above(runs, np.geomspace(last, limit, STEPS), [], expert)["forecast"]
    if target not in rows[0]:
        raise InputError(f"{target}={value:g}: too few budgets have a {target} to forecast it")
    return found | {"measured": False} | _crossing(rows, target, above)


def _crossing(rows: list[dict[str, Any]], target: str, value: float) -> dict[str, Any]:
    """Find where a forecast and the ends of its interval first reach ``value``."""
    better = 0 if target == "loss" else 1
    ends = np.array([row[f"{target}_interval"] for row in rows])
    middle = np.array([row[target] for row in rows])
    sign = -1.0 if target == "loss" else 1.0
    x = np.log([row["flops"] for row in rows])
    at, low, high = (
        _first(x, sign * (curve - value))
        for curve in (middle, ends[:, better], ends[:, 1 - better])
    )
    found: dict[str, Any] = {"flops": _value(at), "flops_interval": _span(low, high)}
    for name in ("params", "frames"):
        if name not in rows[0]:
            continue
        logs = np.log([row[name] for row in rows])
        sizes = np.array([row[f"{name}_interval"] for row in rows])
        found[name] = _value(np.interp(at, x, logs) if np.isfinite(at) else np.inf)
        least, most = _at(x, sizes[:, 0], low), _at(x, sizes[:, 1], high)
        found[f"{name}_interval"] = [least, most]
    return found


def _first(x: np.ndarray, above: np.ndarray) -> float:
    """Return the first x at which ``above`` is 0 or more, by lines between points; inf: none."""
    reached = np.flatnonzero(above >= 0)
    if not len(reached):
        return np.inf
    k = int(reached[0])
    if k == 0:
        return float(x[0])
    share = -above[k - 1] / (above[k] - above[k - 1])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))


def _value(log: float) -> float | None:
    return float(np.exp(log)) if np.isfinite(log) else None


def _span(low: float, high: float) -> list[float] | None:
    """Return the interval of budgets; ``None`` where its lower end lies beyond all of them."""
    return [float(np.exp(low)), float(np.exp(high))] if np.isfinite(low) else None


def _at(x: np.ndarray, ends: np.ndarray, budget: float) -> float:
    """Return an end of sizes' intervals at a log budget, infinite beyond the last."""
    if not np.isfinite(budget):
        return np.inf
    with np.errstate(divide="ignore"):
        return float(np.exp(np.interp(budget, x, np.log(ends))))
