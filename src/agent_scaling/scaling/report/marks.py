"""Intervals, minima, ticks and labels that the PNG figures and the report's figures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from agent_scaling.runtime.formats import compact
from agent_scaling.scaling.intervals import LEVEL

FEW = 200.0
"""Log axes that span less than this factor have ticks at 1, 2 and 5 of each decade; others have
ticks at decades."""

NARROW = 6.0
"""Log axes that span less than this factor have ticks at round numbers."""

BEYOND = 2.0
"""Axes extend by at most this factor beyond the points; longer bars are cut off."""

LABELS = {
    "loss": "loss (nats per action)",
    "return": "return (points per episode)",
    "params": "parameters",
    "frames": "frames",
    "flops": "FLOPs",
}

OVER = {"loss": "held-out games", "return": "episodes"}
"""Sample over which the standard error of a single run is taken."""

SHARED = "; differences between runs on the same games are known better"
"""Note on bars over held-out games, which all runs share."""

ASIDE = 0.06
"""Share of the gap between two sizes over which the bars of one size are spread."""

LISTED = 20
"""Most budgets or sizes that a legend lists; more would leave the figure no room."""


def in_legend(count: int) -> set[int]:
    """Return which of ``count`` budgets or sizes, in order, the legend lists: evenly spaced."""
    return {int(i) for i in np.linspace(0, count - 1, min(count, LISTED)).round()}


def above(label: str, zero: float) -> str:
    """Say in the label of a return's axis that it shows what lies above the return ``zero``."""
    if zero == 0 or label != LABELS["return"]:
        return label
    return f"return above {zero:.3g} (points per episode)".replace("-", "−")


def budget(flops: float) -> str:
    """Format FLOPs as in commands, such as 2e11."""
    return compact(flops, digits=3)


def tick_values(low: float, high: float) -> list[float]:
    """Return tick values for a log axis from ``low`` to ``high``, in and around that range."""
    if high / low < NARROW:
        found = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    else:
        subs = (1.0, 2.0, 5.0) if high / low < FEW else (1.0,)
        found = LogLocator(subs=subs, numticks=12).tick_values(low, high)
    return [float(value) for value in found if value > 0]


def tick_text(name: str, value: float) -> str:
    """Format a tick of the axis ``name`` of :data:`LABELS`."""
    if name == "flops":
        return budget(value)
    return f"{value:g}" if name in OVER else EngFormatter(sep="")(value)


def limits(values: npt.ArrayLike, spans: npt.ArrayLike = ()) -> tuple[float, float]:
    """Return a log axis's ends that show ``values``, and bars' ``spans`` up to :data:`BEYOND`."""
    known, far = np.asarray(values, float), np.asarray(spans, float).ravel()
    far = np.clip(far[np.isfinite(far)], known.min() / BEYOND, known.max() * BEYOND)
    low, high = np.log([min([known.min(), *far]), max([known.max(), *far])])
    margin = 0.04 * (high - low) + 0.03
    return float(np.exp(low - margin)), float(np.exp(high + margin))


def aside(sizes: npt.ArrayLike, count: int) -> np.ndarray:
    """Return a factor for each of ``count`` budgets that puts the bars of a size side by side."""
    gaps = np.diff(np.log(np.unique(np.asarray(sizes, float))))
    width = ASIDE * min([*gaps, 1.0]) if count > 1 else 0.0
    factors: np.ndarray = np.exp(width * np.linspace(-0.5, 0.5, count))
    return factors


def at_best(points: pd.DataFrame, cells: pd.DataFrame, target: str) -> pd.DataFrame:
    """Add to the best cells ``points`` the interval of their value, ``value_low`` and ``_high``."""
    names = {f"{target}_{end}": f"value_{end}" for end in ("low", "high")}
    own = cells[["flops", "params", *names]].rename(columns=names)
    return points.merge(own, how="left", on=["flops", "params"])


def ends(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return both ends of the intervals of a column, (2, n); NaN where not known."""
    return table[[f"{column}_low", f"{column}_high"]].to_numpy(float).T


def minima(points: pd.DataFrame, column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split minima within their sizes into those with an interval of ``column`` and the others."""
    inside = points[(points[column] > 0) & ~points["flag"].isin(["edge", "concave"])]
    bounded = np.isfinite(ends(inside, column)).all(0)
    return inside[bounded], inside[~bounded]


def left_out(unbounded: pd.DataFrame) -> str:
    """Return a note on the minima that a figure omits because their interval is unbounded."""
    return f"minima with unbounded intervals left out: {len(unbounded)}" if len(unbounded) else ""


def power(symbol: str, law: Mapping[str, Any]) -> str:
    """Format a power law and its interval for a legend."""
    ends = "no interval" if law["interval"] is None else "[{:.3f}, {:.3f}]".format(*law["interval"])
    return f"{symbol}^{law['exponent']:.3f} {ends}".replace("-", "−")


def curves(
    fitted: Mapping[str, Any], target: str, x: np.ndarray
) -> list[tuple[np.ndarray, str, str]]:
    """Return values at budgets ``x``, label and line style of the laws of the best ``target``.

    The saturating law is included only where it has a floor (for return, a bound); without one it
    equals the power law. Curves of returns end where they would pass the highest one.
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
    line = line if target == "loss" else under(line, fitted)
    return [*found, (line, f"power law {power('C', law)}{note}", "--")]


def under(returns: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
    """Return a curve of returns without the part above the fit's highest one, which is NaN."""
    highest = fitted.get("highest_return")
    return returns if highest is None else np.where(returns <= highest, returns, np.nan)


def measured(row: Mapping[str, Any], target: str) -> tuple[float, str] | None:
    """Return the measured value that checks a forecast, and its label; ``None`` without one."""
    found = (row.get("comparison") or {}).get(target)
    return found and (found["measured"], f"measured (check): {found['measured']:.4g}")


def bars(cells: pd.DataFrame, target: str) -> str:
    """Describe the bars of ``target``; empty where there are none."""
    known = cells[np.isfinite(ends(cells, target)).all(0) & (cells[target] > 0)]
    alone = known["runs"] == 1
    over = [OVER[target]] * bool(alone.any()) + ["a cell's runs"] * bool((~alone).any())
    shared = SHARED if target == "loss" and alone.any() else ""
    level = f"{100 * LEVEL:.0f} %"
    return f"bars: {level} intervals over {' and '.join(over)}{shared}" if over else ""
