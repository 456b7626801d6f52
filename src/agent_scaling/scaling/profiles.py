"""IsoFLOP profiles: each budget's best size, of the grid and of a parabola through the nearest."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.90
"""Nominal coverage of every interval."""

NEAREST = 5
"""Sizes around the best that a parabola is fitted to: parabolas through all points are biased."""


def best_of_grid(cells: pd.DataFrame, target: str) -> pd.DataFrame:
    """Each budget's best cell: lowest loss or highest return.

    Returns a row per budget: flops, params, samples, loss, return, value (the target), edge (the
    best is the smallest or the largest size of its budget).
    """
    index = best_rows(cells, target)
    best = cells.iloc[index][["flops", "params", "samples", "loss", "return"]].copy()
    known = cells[cells[target] > 0]
    sizes = known.groupby("flops")["params"].agg(["min", "max"]).to_numpy()
    best["value"] = best[target]
    best["edge"] = (best["params"].to_numpy()[:, None] == sizes).any(1)
    return best.reset_index(drop=True)


def best_rows(cells: pd.DataFrame, target: str) -> np.ndarray:
    """Positions in ``cells`` of each budget's best cell, by budget."""
    value, flops = cells[target].to_numpy(float), cells["flops"].to_numpy(float)
    known = np.flatnonzero(value > 0)
    signed = value[known] if target == "loss" else -value[known]
    order = known[np.lexsort((signed, flops[known]))]
    first = np.diff(flops[order], prepend=-np.inf) > 0
    return order[first]


def parabolas(cells: pd.DataFrame, target: str, nearest: int = NEAREST) -> pd.DataFrame:
    """Each budget's optimum of a quadratic of the log target in log parameters.

    The quadratic goes through the ``nearest`` sizes around the budget's best. Returns a row per
    budget with three sizes or more: flops, params, params_low, params_high (Fieller's interval of
    the minimum, NaN where unbounded), samples, value, curvature, flag ("" where the minimum can be
    used; "edge": it lies beyond the sizes; "curvature": not significantly curved; "concave").
    """
    best = best_of_grid(cells, target)
    known = cells[cells[target] > 0]
    rows = []
    for flops, params in zip(best["flops"], best["params"], strict=True):
        cell = known[known["flops"] == flops]
        if len(cell) >= 3:
            rows.append({"flops": flops} | _parabola(cell, float(params), target, nearest))
    names = ["flops", "params", "params_low", "params_high", "samples", "value", "curvature"]
    return pd.DataFrame(rows, columns=[*names, "flag"])


def _parabola(cell: pd.DataFrame, best: float, target: str, nearest: int) -> dict[str, object]:
    x = np.log(cell["params"].to_numpy(float))
    order = np.argsort(np.abs(x - np.log(best)), kind="stable")[:nearest]
    near = cell.iloc[np.sort(order)]
    x = np.log(near["params"].to_numpy(float)) - np.log(best)
    sign = 1.0 if target == "loss" else -1.0
    y = sign * np.log(near[target].to_numpy(float))
    design = np.stack([np.ones_like(x), x, x**2], 1)
    c, b, a = coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    spare = len(x) - 3
    noise = float(((y - design @ coefficients) ** 2).sum() / spare) if spare else np.nan
    covariance = noise * np.linalg.inv(design.T @ design)
    t = float(stats.t.ppf((1 + LEVEL) / 2, spare)) if spare else np.nan
    if a <= 0:
        row = {"params": np.nan, "samples": np.nan, "value": np.nan, "curvature": a}
        return row | {"params_low": np.nan, "params_high": np.nan, "flag": "concave"}
    centre = -b / (2 * a)
    low, high = _fieller(b, 2 * a, covariance[1, 1], 4 * covariance[2, 2], 2 * covariance[1, 2], t)
    outside = not x.min() <= centre <= x.max()
    significant = bool(a > t * np.sqrt(covariance[2, 2]))
    lines = near[["params", "samples"]].dropna()
    return {
        "params": best * np.exp(centre),
        "params_low": best * np.exp(low),
        "params_high": best * np.exp(high),
        "samples": _samples(lines, best * np.exp(centre)),
        "value": np.exp(sign * (c + b * centre + a * centre**2)),
        "curvature": a,
        "flag": "edge" if outside else "" if significant else "curvature",
    }


def _samples(known: pd.DataFrame, params: float) -> float:
    """Frames at a size of the same budget: log-linear in log parameters."""
    if len(known) < 2:
        return float("nan")
    line = np.polyfit(np.log(known["params"]), np.log(known["samples"]), 1)
    return float(np.exp(np.polyval(line, np.log(params))))


def _fieller(
    b: float, a: float, var_b: float, var_a: float, covariance: float, t: float
) -> tuple[float, float]:
    """Interval of −b/a by Fieller's theorem; NaN where it is unbounded."""
    p, q, r = a**2 - t**2 * var_a, a * b - t**2 * covariance, b**2 - t**2 * var_b
    inside = q**2 - p * r
    if not (p > 0 and inside >= 0):
        return float("nan"), float("nan")
    root = float(np.sqrt(inside))
    return (-q - root) / p, (-q + root) / p


def flags(profile: pd.DataFrame, target: str) -> list[str]:
    """A line for each budget whose optimum should not be trusted."""
    lines = []
    for row in profile.to_dict("records"):
        where = f"{row['flops']:.3g} FLOPs, {target}"
        if row.get("edge"):
            lines.append(f"edge: {where}: the best of the grid is its smallest or largest size")
        if row.get("flag"):
            reason = {
                "edge": "edge of parabola: {}: the minimum lies outside the sizes around the best",
                "curvature": "insignificant curvature: {}: the minimum is not determined",
                "concave": "insignificant curvature: {}: the parabola has no minimum",
            }[row["flag"]]
            lines.append(reason.format(where))
    return lines
