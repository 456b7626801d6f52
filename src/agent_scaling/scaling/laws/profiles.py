"""IsoFLOP profiles: each budget's best size, on the grid and on a curve through nearby sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws import minima

FEWEST = 3
"""Sizes of a budget below which it has no profile."""


SAME = 0.1
"""Sizes of a budget that differ by less, in logarithms, are no choice: seeds' and roundings'."""


def count_sizes(cells: pd.DataFrame) -> np.ndarray:
    """Count the sizes of each budget, in order of budgets; those within :data:`SAME` are one."""
    flops, log_n = cells["flops"].to_numpy(float), np.log(cells["params"].to_numpy(float))
    order = np.lexsort((log_n, flops))
    first = np.diff(flops[order], prepend=-np.inf) > 0
    apart = first | (np.diff(log_n[order], prepend=-np.inf) > SAME)
    counts: np.ndarray = np.add.reduceat(apart.astype(int), np.flatnonzero(first))
    return counts


def best_of_grid(cells: pd.DataFrame, target: str) -> pd.DataFrame:
    """Find each budget's best cell: lowest loss or highest return.

    Returns a row per budget: flops, params, samples, loss, return, value (the target's), and edge,
    True where the best is the smallest or the largest size of its budget.
    """
    index = best_rows(cells, target)
    best = cells.iloc[index][["flops", "params", "samples", "loss", "return"]].copy()
    known = cells[cells[target] > 0]
    sizes = known.groupby("flops")["params"].agg(["min", "max"]).to_numpy()
    best["value"] = best[target]
    best["edge"] = (best["params"].to_numpy()[:, None] == sizes).any(1)
    return best.reset_index(drop=True)


def best_rows(cells: pd.DataFrame, target: str) -> np.ndarray:
    """Return the position in ``cells`` of each budget's best cell, in order of budgets."""
    value, flops = cells[target].to_numpy(float), cells["flops"].to_numpy(float)
    known = np.flatnonzero(value > 0)
    signed = value[known] if target == "loss" else -value[known]
    order = known[np.lexsort((signed, flops[known]))]
    first = np.diff(flops[order], prepend=-np.inf) > 0
    return order[first]


def grid(cells: pd.DataFrame, *columns: str) -> tuple[np.ndarray, ...]:
    """Return budgets (K,), sizes (S,), and the log of each column by both (K, S).

    NaN where no positive value was measured.
    """
    flops, row = np.unique(cells["flops"].to_numpy(float), return_inverse=True)
    params, place = np.unique(cells["params"].to_numpy(float), return_inverse=True)
    logs = np.full((len(columns), len(flops), len(params)), np.nan)
    for log, values in zip(logs, (cells[name].to_numpy(float) for name in columns), strict=True):
        log[row, place] = np.log(np.where(values > 0, values, np.nan))
    return flops, params, *logs


@dataclass(frozen=True)
class Profiles:
    """The budgets measured at three sizes or more, with the sizes of those budgets.

    Attributes:
        flops: Budgets, (K,).
        log_n: Logs of the sizes, (S,).
        y: Log loss or minus log return, so that lower is better, (K, S); NaN where absent.
        frames: Log frames, (K, S).
    """

    flops: np.ndarray
    log_n: np.ndarray
    y: np.ndarray
    frames: np.ndarray


def profiles_of(cells: pd.DataFrame, target: str) -> Profiles:
    """Select the budgets with a profile; drop other budgets, and sizes that only those have."""
    known = cells[cells[target] > 0]
    _, budget = np.unique(known["flops"].to_numpy(float), return_inverse=True)
    known = known[count_sizes(known)[budget] >= FEWEST]
    flops, size, value, frames = grid(known, target, "samples")
    return Profiles(flops, np.log(size), value if target == "loss" else -value, frames)


def shape_of(cells: pd.DataFrame, target: str) -> minima.Shape:
    """Return the posterior of the exponents that the profiles of all budgets share."""
    table = profiles_of(cells, target)
    return minima.shared_shape(table.log_n, table.y)


def parabolas(cells: pd.DataFrame, target: str, shape: minima.Shape | None = None) -> pd.DataFrame:
    """Find each budget's optimum on the curve of :mod:`minima` through the sizes near its best.

    Returns a row per budget with three sizes or more. Columns: flops; params, samples and value at
    the minimum; for each of these ``_low`` and ``_high`` (NaN where unbounded), ``_sd`` (standard
    error of its log) and ``_shifts`` (changes of its log, as :func:`minima.shifts`); curvature; and
    flag. The flag is "" for a usable minimum, "edge" for one beyond the sizes, "curvature" for an
    unbounded interval, and "concave" for a curve without a minimum.
    """
    table = profiles_of(cells, target)
    flops, size, y, frames = table.flops, table.log_n, table.y, table.frames
    names = ("params", "samples", "value")
    if not len(flops):
        parts = [f"{name}{part}" for name in names for part in ("", "_low", "_high", "_sd")]
        shifted = [f"{name}_shifts" for name in names]
        empty = pd.DataFrame(columns=["flops", *parts, "curvature"], dtype=float)
        return empty.reindex(columns=[*empty.columns, *shifted, "flag"])
    shape = shape or minima.shared_shape(size, y)
    found, (by_size, by_value) = minima.find(size, y, shape.mean), minima.shifts(size, y, shape)
    low, high = minima.widened(found.log_n, found.low, found.high, by_size)
    ends = [minima.line_at(size, frames, found.taken, at) for at in (found.log_n, high, low)]
    per_size = minima.line_at(size, frames, found.taken, found.log_n + 1) - ends[0]
    bottom = found.value - found.value_half, found.value + found.value_half
    bottom = minima.widened(found.value, *bottom, by_value)
    sign = 1 if target == "loss" else -1
    columns = {
        "params": (found.log_n, low, high, found.log_n_sd, by_size),
        "samples": (*ends, np.abs(per_size) * found.log_n_sd, per_size[:, None] * by_size),
        "value": (sign * found.value, *(sign * end for end in bottom[::sign])),
    }
    columns["value"] += (found.value_sd, sign * by_value)
    flag = np.where(np.isnan(low) | np.isnan(high), "curvature", "")
    flag = np.where(found.inside, flag, np.where(found.concave, "concave", "edge"))
    columned: dict[str, object] = {"flops": flops}
    for name, (at, start, end, error, moved) in columns.items():
        columned |= {name: np.exp(at), f"{name}_low": np.exp(start), f"{name}_high": np.exp(end)}
        columned |= {f"{name}_sd": error, f"{name}_shifts": list(moved)}
    return pd.DataFrame(columned | {"curvature": found.curvature, "flag": flag})


def quadratics(cells: pd.DataFrame, target: str) -> pd.DataFrame:
    """Find each budget's optimum by a quadratic of the log target in log parameters.

    The quadratic is fitted to the :data:`minima.NEAREST` sizes around the best, as is usual
    (Hoffmann et al. 2022, approach 2). It is biased where the profile is not symmetric. Returns a
    row (flops, params, samples, value) per budget whose minimum lies within these sizes.
    """
    table = profiles_of(cells, target)
    size, near = table.log_n, minima.nearest(table.log_n, table.y, 1.0)
    names, rows = ["params", "samples", "value"], []
    for budget, taken, value, played in zip(table.flops, near, table.y, table.frames, strict=True):
        x = size[taken]
        a, b, c = np.polyfit(x - x.mean(), value[taken], 2)
        if not a > 0:
            continue
        centre = -b / (2 * a) + x.mean()
        if x.min() <= centre <= x.max():
            bottom = (c - b**2 / (4 * a)) * (1 if target == "loss" else -1)
            rows.append((budget, centre, minima.line_at(size, played, taken, centre), bottom))
    found = pd.DataFrame(rows, columns=["flops", *names], dtype=float)
    found[names] = np.exp(found[names])
    return found


def flags(profile: pd.DataFrame, target: str) -> list[str]:
    """Return a line for each budget whose optimum is unreliable."""
    lines = []
    for row in profile.to_dict("records"):
        where = f"{row['flops']:.3g} FLOPs, {target}"
        if row.get("edge"):
            lines.append(f"edge: {where}: the best of the grid is its smallest or largest size")
        if row.get("flag"):
            reason = {
                "edge": "edge of parabola: {}: the minimum lies outside the sizes around the best",
                "curvature": "insignificant curvature: {}: the minimum's interval is unbounded",
                "concave": "insignificant curvature: {}: the curve has no minimum",
            }[row["flag"]]
            lines.append(reason.format(where))
    return lines
