"""Bootstrap intervals, by resampling sizes, the runs of a size, and rollout episodes.

One run's checkpoints serve every budget of its size, so the points of one size are correlated.
Sizes are therefore drawn, not points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting.recency import LATEST, latest
from agent_scaling.scaling.intervals import LEVEL
from agent_scaling.scaling.laws import batched, minima, parametric, profiles
from agent_scaling.scaling.runs.table import Runs

CHUNK = 500
"""Largest number of resamples held in memory."""

PARAMETRIC = 200
"""Most resamples to which one call of ``fit`` fits the law of two variables."""

SIZES = 5
"""Fewest sizes for an interval. A fit that needs three sizes can see only one table of 3 sizes (the
original, as if nothing varied), five of 4, and sixteen or more of 5."""

SHARE = 0.5
"""Least share of resamples that must be fitted; with fewer, percentiles would be of lucky ones."""

ROUNDING = 1e-9
"""Ends whose relative difference is at most this are one value, which resampling did not change."""


@dataclass(frozen=True)
class Grid:
    """Runs as arrays: S sizes, R runs of a size, K budgets; NaN marks absent values.

    Attributes:
        log_n_S, log_c_K: Logs of parameters and of FLOPs.
        log_d_SK: Log frames.
        loss_SRK: Log loss; only runs with a loss are stored, from index 0 along R.
        return_SRK, error_SRK, weight_SRK: Return, its standard error over episodes, episodes.
        highest: The highest return that can be drawn.
    """

    log_n_S: np.ndarray
    log_c_K: np.ndarray
    log_d_SK: np.ndarray
    loss_SRK: np.ndarray
    return_SRK: np.ndarray
    error_SRK: np.ndarray
    weight_SRK: np.ndarray
    highest: float = np.inf


def as_grid(runs: Runs) -> Grid:
    """Lay out the rows of ``runs`` by size, run and budget."""
    rows = runs.rows
    sizes, budgets = np.unique(rows["params"]), np.unique(rows["flops"])
    cells = runs.cells.pivot(index="params", columns="flops", values="samples")
    known = rows.assign(
        log_loss=np.log(rows["loss"].where(rows["loss"] > 0)),
        return_se=rows["return_se"].fillna(0.0),
        rollouts=rows["rollouts"].fillna(1.0),
    )
    with_loss = known[known["log_loss"].notna()]
    with_return = known[known["return"].notna()]
    columns = ("return", "return_se", "rollouts")
    score, error, weight = (_spread(with_return, c, sizes, budgets) for c in columns)
    return Grid(
        np.log(sizes),
        np.log(budgets),
        np.log(cells.reindex(index=sizes, columns=budgets).to_numpy(float)),
        _spread(with_loss, "log_loss", sizes, budgets),
        score,
        error,
        weight,
        np.inf if runs.highest is None else runs.highest,
    )


def _spread(rows: pd.DataFrame, column: str, sizes: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Spread a column over size, run (numbered within its size) and budget."""
    number = rows.groupby("params")["run"].transform(lambda run: pd.factorize(run)[0]).astype(int)
    spread = np.full((len(sizes), int(number.max() + 1) if len(rows) else 1, len(budgets)), np.nan)
    at = np.searchsorted(sizes, rows["params"]), number, np.searchsorted(budgets, rows["flops"])
    spread[at] = rows[column]
    return spread


def bootstrap_intervals(runs: Runs, count: int, seed: int = 0) -> dict[str, Any]:
    """Return percentile intervals of the default fits over ``count`` resamples.

    The result has the shape of :func:`summarise`.
    """
    return summarise(bootstrap(runs, count, seed), runs.rows["params"].nunique())


def bootstrap(runs: Runs, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the default fits' estimates, (count,) each, by name ``form/target/quantity``."""
    grid, generator = as_grid(runs), np.random.default_rng(seed)
    known = [target for target in ("loss", "return") if len(runs.target(target))]
    shapes = {target: profiles.shape_of(runs.cells, target).mean for target in known}
    parts = [
        _estimates(grid, min(CHUNK, count - done), generator, shapes)
        for done in range(0, count, CHUNK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def bootstrap_parametric(runs: Runs, count: int, seed: int = 0) -> dict[str, Any] | None:
    """Return percentile intervals of the law of two variables over ``count`` resamples.

    Each resample's fit starts from the law of all runs. The result has the shape of
    :func:`summarise`; ``None`` where the law of all runs cannot be fitted.
    """
    near = parametric.near_optimum(runs.cells)
    if not parametric.enough(near):
        return None
    sizes, names = near["params"].nunique(), ("E", "alpha", "beta", "N_opt", "D_opt")
    estimates = {name: np.full(count, np.nan) for name in names}
    if sizes >= SIZES:
        whole, grid = parametric.fit_parametric(runs.cells), as_grid(runs)
        loss_BSK, _ = resample(grid, count, np.random.default_rng(seed))
        for number, loss_SK in enumerate(loss_BSK):
            cells = _as_cells(grid, loss_SK)
            if parametric.enough(parametric.near_optimum(cells)):
                found = parametric.fit_parametric(cells, start=whole).coefficients()
                for name in names:
                    estimates[name][number] = found[name]
    return summarise(estimates, sizes)


def _as_cells(grid: Grid, loss_SK: np.ndarray) -> pd.DataFrame:
    size, budget = np.nonzero(np.isfinite(loss_SK))
    logs = {"params": grid.log_n_S[size], "flops": grid.log_c_K[budget]}
    logs |= {"samples": grid.log_d_SK[size, budget], "loss": loss_SK[size, budget]}
    return pd.DataFrame({name: np.exp(values) for name, values in logs.items()})


def summarise(estimates: dict[str, np.ndarray], sizes: int) -> dict[str, Any]:
    """Summarise estimates from resamples of ``sizes`` sizes, nested by their names' slashes.

    Each entry holds interval (of :data:`intervals.LEVEL`; ``None``, with a ``reason``, where there
    is none), median, and resamples (the number that could be fitted).
    """
    nested: dict[str, Any] = {"resamples": len(next(iter(estimates.values())))}
    tails = 50 * (1 - LEVEL), 50.0, 50 * (1 + LEVEL)
    for name, values in estimates.items():
        *folders, last = name.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        finite = values[np.isfinite(values)]
        low, middle, high = np.percentile(finite, tails) if len(finite) else (np.nan,) * 3
        place[last] = {"interval": [low, high], "median": middle, "resamples": len(finite)}
        if reason := _no_interval(low, high, len(finite), len(values), sizes):
            place[last] |= {"interval": None, "reason": reason}
    return nested


def _no_interval(low: float, high: float, fitted: int, drawn: int, sizes: int) -> str | None:
    """Return the reason why percentiles of the estimates make no valid interval, if any."""
    if sizes < SIZES:
        return f"{sizes} sizes to draw from, {SIZES} are needed"
    if fitted < SHARE * drawn:
        return f"{fitted} of {drawn} resamples could be fitted"
    if high - low <= ROUNDING * max(abs(low), abs(high)):
        return "all resamples gave one value"
    return None


def flags(found: dict[str, Any]) -> list[str]:
    """Return a flag for each reason why quantities of ``bootstrap`` have no interval."""
    leaves, by_reason = list(_leaves(found)), dict[str, list[str]]()
    for name, entry in leaves:
        if "reason" in entry:
            by_reason.setdefault(entry["reason"], []).append(name)
    return [
        f"no bootstrap interval: {'any' if len(names) == len(leaves) else ', '.join(names)}: {why}"
        for why, names in by_reason.items()
    ]


def _leaves(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in found.items():
        if isinstance(part, dict):
            within = f"{path} {name}".strip()
            yield from [(within, part)] if "interval" in part else _leaves(part, within)


def resample(
    grid: Grid, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` resamples of log loss and log return, (B, S, K) each; NaN: not drawn."""
    sizes = len(grid.log_n_S)
    drawn = generator.multinomial(sizes, np.full(sizes, 1 / sizes), size=count)[:, :, None] > 0
    most = max(grid.loss_SRK.shape[1], grid.return_SRK.shape[1])
    uniform = generator.random((count, sizes, most))  # one draw for both metrics of a run
    loss = _mean_of_runs(grid.loss_SRK, np.isfinite(grid.loss_SRK) * 1.0, uniform)
    noise = generator.standard_normal((count, *grid.return_SRK.shape))
    episodes = np.where(np.isfinite(grid.weight_SRK), grid.weight_SRK, 0.0)
    played = np.minimum(grid.return_SRK + noise * grid.error_SRK, grid.highest)
    score = _mean_of_runs(played, episodes, uniform)
    with np.errstate(invalid="ignore"):
        score = np.log(np.where(score > 0, score, np.nan))
    return np.where(drawn, loss, np.nan), np.where(drawn, score, np.nan)


def _mean_of_runs(values: np.ndarray, weight_SRK: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Average as many runs, drawn with replacement, as the size has, by weight; (B, S, K)."""
    runs = weight_SRK.shape[1]
    held = (weight_SRK > 0).any(2).sum(1)  # runs of each size
    index = np.floor(uniform[..., :runs] * held[:, None]).astype(int)
    taken = np.arange(runs) < held[:, None]
    times = ((index[..., None] == np.arange(runs)) & taken[..., None]).sum(2)  # B, S, R
    weight = times[..., None] * weight_SRK
    total = weight.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: np.ndarray = (weight * np.nan_to_num(values)).sum(2) / total
    return np.where(total > 0, mean, np.nan)


def _estimates(
    grid: Grid, count: int, generator: np.random.Generator, shapes: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    loss, score = resample(grid, count, generator)
    found: dict[str, np.ndarray] = {}
    for target, value in (("loss", loss), ("return", -score)):  # minima of both
        if target in shapes:
            found |= _profiles(grid, target, value, shapes[target])
    index, lowest = batched.best(loss)
    if np.isfinite(lowest).any():
        floor, gamma = batched.saturating(grid.log_c_K, lowest).T
        found |= {"saturating/loss/L_inf": np.exp(floor), "saturating/loss/gamma": gamma}
    if len(found) > 8:
        at_optimum = np.take_along_axis(score, index[:, None], 1)[:, 0]
        last = slice(-latest(grid.log_c_K, LATEST), None)
        delta = batched.slopes(lowest[:, last], at_optimum[:, last])
        found["return_from_loss/exponent"] = delta
    return found


def _profiles(
    grid: Grid, target: str, value: np.ndarray, shape: np.ndarray
) -> dict[str, np.ndarray]:
    """Return exponents of the best cells, and of minima of curves with the whole table's shape."""
    sign = 1.0 if target == "loss" else -1.0
    index, lowest = batched.best(value)
    present = np.isfinite(lowest)
    x = np.where(present, grid.log_c_K, np.nan)
    n, d = grid.log_n_S[index], grid.log_d_SK[index, np.arange(len(grid.log_c_K))]
    curves = minima.find(grid.log_n_S, value.swapaxes(1, 2), shape)
    frames = minima.line_at(grid.log_n_S, grid.log_d_SK.T, curves.taken, curves.log_n)
    at, frames, bottom = (
        np.where(curves.inside, part, np.nan) for part in (curves.log_n, frames, curves.value)
    )
    return {
        f"best_of_grid/{target}/N_opt": batched.slopes(x, n),
        f"best_of_grid/{target}/D_opt": batched.slopes(x, d),
        f"best_of_grid/{target}/optimum": sign * batched.slopes(x, lowest),
        f"parabola/{target}/N_opt": batched.slopes(x, at),
        f"parabola/{target}/D_opt": batched.slopes(x, frames),
        f"parabola/{target}/optimum": sign * batched.slopes(x, bottom),
    }
