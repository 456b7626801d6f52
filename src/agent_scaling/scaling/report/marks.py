"""What the figures of a fit mark: intervals of cells, minima that have one, ticks, and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from agent_scaling.scaling.intervals import LEVEL

FEW = 200.0
"""Log axes that span less have marks at 1, 2 and 5 of each decade; others at decades."""

NARROW = 6.0
"""Those that span less have marks at round numbers."""

BEYOND = 2.0
"""Bars are shown this factor beyond the points; what is longer leaves the axes."""

LABELS = {
    "loss": "loss (nats per action)",
    "return": "return (points per episode)",
    "params": "parameters",
    "frames": "frames",
    "flops": "FLOPs",
}

OVER = {"loss": "held-out games", "return": "episodes"}
"""What the standard error of a single run is over."""

SHARED = "; differences between runs on the same games are known better"
"""Their errors have the games in common."""

ASIDE = 0.06
"""Share of the gap between two sizes over which the bars of one size are spread."""


def budget(flops: float) -> str:
    """FLOPs as commands have them: 2e11."""
    return f"{flops:.3g}".replace("e+0", "e").replace("e+", "e")


def tick_values(low: float, high: float) -> list[float]:
    """Values to mark on a log axis from ``low`` to ``high``, in and around it."""
    if high / low < NARROW:
        found = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    else:
        subs = (1.0, 2.0, 5.0) if high / low < FEW else (1.0,)
        found = LogLocator(subs=subs, numticks=12).tick_values(low, high)
    return [float(value) for value in found if value > 0]


def tick_text(name: str, value: float) -> str:
    """A mark of the axis ``name`` of :data:`LABELS`."""
    if name == "flops":
        return budget(value)
    return f"{value:g}" if name in OVER else EngFormatter(sep="")(value)


def limits(values: Any, spans: Any = ()) -> tuple[float, float]:
    """Ends of a log axis that shows ``values``, and ``spans`` of bars as far as :data:`BEYOND`."""
    known, far = np.asarray(values, float), np.asarray(spans, float).ravel()
    far = np.clip(far[np.isfinite(far)], known.min() / BEYOND, known.max() * BEYOND)
    low, high = np.log([min([known.min(), *far]), max([known.max(), *far])])
    margin = 0.04 * (high - low) + 0.03
    return float(np.exp(low - margin)), float(np.exp(high + margin))


def aside(sizes: Any, count: int) -> np.ndarray:
    """Factors, one for each of ``count`` budgets, that put the bars of a size side by side."""
    gaps = np.diff(np.log(np.unique(np.asarray(sizes, float))))
    width = ASIDE * min([*gaps, 1.0]) if count > 1 else 0.0
    factors: np.ndarray = np.exp(width * np.linspace(-0.5, 0.5, count))
    return factors


def at_best(points: pd.DataFrame, cells: pd.DataFrame, target: str) -> pd.DataFrame:
    """The best cells ``points`` with the interval of their value, ``value_low`` and ``_high``."""
    names = {f"{target}_{end}": f"value_{end}" for end in ("low", "high")}
    own = cells[["flops", "params", *names]].rename(columns=names)
    return points.merge(own, how="left", on=["flops", "params"])


def ends(table: pd.DataFrame, column: str) -> np.ndarray:
    """Both ends of the intervals of a column, (2, n); NaN where not known."""
    return table[[f"{column}_low", f"{column}_high"]].to_numpy(float).T


def minima(points: pd.DataFrame, column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Minima of curves within their sizes: with an interval of ``column``, and unbounded ones."""
    inside = points[(points[column] > 0) & ~points["flag"].isin(["edge", "concave"])]
    bounded = np.isfinite(ends(inside, column)).all(0)
    return inside[bounded], inside[~bounded]


def left_out(unbounded: pd.DataFrame) -> str:
    """How many minima a figure does not show because their interval has no end."""
    return f"minima with unbounded intervals left out: {len(unbounded)}" if len(unbounded) else ""


def power(symbol: str, law: Mapping[str, Any]) -> str:
    """A power law as a legend names it, its interval with it."""
    ends = "no interval" if law["interval"] is None else "[{:.3f}, {:.3f}]".format(*law["interval"])
    return f"{symbol}^{law['exponent']:.3f} {ends}".replace("-", "−")


def curves(
    fitted: Mapping[str, Any], target: str, x: np.ndarray
) -> list[tuple[np.ndarray, str, str]]:
    """Values at budgets ``x``, label and line style of the laws of the best ``target``.

    The one with a floor (a bound, of return) only where it has one: else it is the power law again.
    """
    law, found = fitted["best_of_grid"][target]["optimum"], []
    floor = fitted["saturating"].get(target) or {"log_a": np.nan, "gamma": np.nan}
    decay, note = np.exp(floor["log_a"] - floor["gamma"] * np.log(x)), ""
    if floor.get("L_inf"):
        name = f"{floor['L_inf']:.3g} + a C^−{floor['gamma']:.3f}"
        found.append((floor["L_inf"] + decay, name, "-"))
    elif floor.get("R_max"):
        name = f"bounded by {floor['R_max']:.4g}"
        found.append((1 / (decay + 1 / floor["R_max"]), name, "-"))
    elif "converged" in floor:
        note = ", no floor found" if target == "loss" else ", no bound found"
    line = np.exp(law["log_coefficient"]) * x ** law["exponent"]
    return [*found, (line, f"power law {power('C', law)}{note}", "--")]


def measured(row: Mapping[str, Any], target: str) -> tuple[float, str] | None:
    """What the run that a forecast is checked with reached, and its label."""
    found = (row.get("comparison") or {}).get(target)
    return found and (found["measured"], f"measured (check): {found['measured']:.4g}")


def bars(cells: pd.DataFrame, target: str) -> str:
    """What the bars of ``target`` are; empty: there are none."""
    known = cells[np.isfinite(ends(cells, target)).all(0) & (cells[target] > 0)]
    alone = known["runs"] == 1
    over = [OVER[target]] * bool(alone.any()) + ["a cell's runs"] * bool((~alone).any())
    shared = SHARED if target == "loss" and alone.any() else ""
    level = f"{100 * LEVEL:.0f} %"
    return f"bars: {level} intervals over {' and '.join(over)}{shared}" if over else ""
