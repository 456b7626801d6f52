"""The best size and its frames at budgets ahead; one-sided intervals where a grid missed them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting import structure
from agent_scaling.scaling.fitting.analysis import one_size
from agent_scaling.scaling.intervals import half_width
from agent_scaling.scaling.laws import curves
from agent_scaling.scaling.laws.profiles import best_of_grid, parabolas, profiles_of

SIZES = 3
"""Budgets whose optimal sizes make a law of sizes."""

EXPONENT = 0.5, 0.15
"""Mean and standard deviation of the exponents of N_opt and D_opt before a table is seen: those of
published laws are from 0.4 to 0.7."""

SPREAD = 0.2, 2.0
"""Log spread of optima about their law before a table is seen, and the optima that it weighs as
much as."""

UNKNOWN = 0.5
"""Log standard error of a best cell: sizes of a grid are about so far apart."""

STEPS = 20
"""Iterations in which the spread settles."""

MISSED = 0.5
"""Share of profiles that are lowest at one end from which the grid is taken to miss the optima."""


@dataclass(frozen=True)
class Sizes:
    """Logs of parameters and of frames at budgets ahead.

    Attributes:
        logs: ``params`` and, where known, ``frames``: (mean, low, high), each of shape (budgets,).
        flag: A remark about the sizes, if any.
    """

    logs: dict[str, tuple[np.ndarray, ...]]
    flag: str | None = None


def optimal_sizes(cells: pd.DataFrame, x: np.ndarray, target: str) -> Sizes:
    """Find best sizes at log budgets ``x``.

    By the parametric law in a table without profiles; by bounds where the grid missed the optima;
    else by power laws through the minima of the budgets' curves, or through their best cells where
    fewer than three minima are known.
    """
    if reason := structure.layout(cells, target):
        if structure.has_law(cells):
            return Sizes(structure.sizes_by_law(cells, x))
        return Sizes({}, f"no forecast of sizes: {reason}, and there is no parametric law")
    points = parabolas(cells, target)
    if side := missed(cells, target, points):
        return _bounded(cells, x, target, side)
    points = points[~points["flag"].isin(["edge", "concave"])]
    if len(points) < SIZES:
        points = best_of_grid(cells, target)
    return Sizes(_by_power(points, x))


def missed(cells: pd.DataFrame, target: str, points: pd.DataFrame) -> str | None:
    """Return ``below`` or ``above`` where most profiles have their optimum beyond the grid.

    Such a profile has no significant minimum inside (``points``), and is best at its smallest or
    largest size.
    """
    if len(points) < SIZES:
        return None
    table = profiles_of(cells, target)
    outside = (points["flag"] != "").to_numpy()
    best = np.where(np.isfinite(table.y), table.y, np.inf).argmin(1)
    known = np.isfinite(table.y)
    first, last = known.argmax(1), known.shape[1] - 1 - known[:, ::-1].argmax(1)
    for side, end in (("below", first), ("above", last)):
        if (outside & (best == end)).mean() > MISSED:
            return side
    return None


def _bounded(cells: pd.DataFrame, x: np.ndarray, target: str, side: str) -> Sizes:
    """Bounds from the end of the grid: best sizes grow with compute, and no faster than it does."""
    best = best_of_grid(cells, target).iloc[-1]
    ahead = np.maximum(x - np.log(best["flops"]), 0.0)
    end, none = np.full(len(x), np.log(best["params"])), np.full(len(x), np.inf)
    frames = np.full(len(x), np.log(best["samples"]))
    logs: dict[str, tuple[np.ndarray, ...]]
    if side == "below":
        logs = {"params": (end + ahead, -none, end + ahead), "frames": (frames, frames, none)}
    else:
        logs = {"params": (end, end, none), "frames": (frames + ahead, -none, frames + ahead)}
    if np.isnan(frames).any():
        logs.pop("frames")
    text = (
        f"most profiles of {target} are best at the {'smallest' if side == 'below' else 'largest'}"
    )
    return Sizes(logs, f"grid missed the optimum: {text} size: N_opt lies {side} what is forecast")


def _by_power(points: pd.DataFrame, x: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """Power laws through optima. Of one size alone they do not show growth: they are unbounded."""
    one, logs = one_size(points["params"]), dict[str, tuple[np.ndarray, ...]]()
    for name, column in (("params", "params"), ("frames", "samples")):
        known = points[points[column] > 0]
        if len(known) < SIZES:
            continue
        budgets, values = (np.log(known[part].to_numpy(float)) for part in ("flops", column))
        if one:
            mean, half = curves.fit_power(budgets, values)(x), np.full(len(x), np.inf)
        else:
            mean, half = growth(budgets, values, _errors(known, column), x)
        logs[name] = mean, mean - half, mean + half
    return logs


def _errors(known: pd.DataFrame, column: str) -> np.ndarray:
    """Standard errors of log optima; :data:`UNKNOWN` of a best cell, and where there is none."""
    if f"{column}_sd" not in known:
        return np.full(len(known), UNKNOWN)
    own, shifts = known[f"{column}_sd"].to_numpy(float), np.stack(list(known[f"{column}_shifts"]))
    found: np.ndarray = np.hypot(
        np.where(np.isfinite(own), own, 1.0), np.linalg.norm(shifts, axis=1)
    )
    return found


def growth(
    at: np.ndarray, value: np.ndarray, error: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half-width, at log budgets ``x``, of a line through log optima with errors.

    An optimum scatters about the line by its own ``error`` and by a spread that all share. Few
    optima near each other say little of the exponent: it is drawn to :data:`EXPONENT`, and the
    spread to :data:`SPREAD`. The half-width is of a new optimum, by Student's t.
    """
    centre = at.mean()
    design, ahead = (np.stack([np.ones_like(t), t - centre], 1) for t in (at, x))
    prior, middle = np.diag([0.0, EXPONENT[1] ** -2]), np.array([0.0, EXPONENT[0]])
    square, counts = SPREAD[0] ** 2, SPREAD[1]
    for _ in range(STEPS):
        weight = 1 / (error**2 + square)
        covariance = np.linalg.inv(design.T @ (weight[:, None] * design) + prior)
        theta = covariance @ (design.T @ (weight * value) + prior @ middle)
        rest = (value - design @ theta) ** 2 + ((design @ covariance) * design).sum(1)
        share = weight * square  # of what an optimum is off by, the part that is the spread's
        square = (counts * SPREAD[0] ** 2 + (share * rest).sum()) / (counts + share.sum())
    sd = np.sqrt(((ahead @ covariance) * ahead).sum(1) + square)
    return ahead @ theta, half_width(1.0, int(counts) + len(at) - 2) * sd
