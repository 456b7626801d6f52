"""Laws of hyper-parameters: the learning rate and the batch of lowest loss, as powers of N and D.

Near its minimum the log loss of a cell is a quadratic of the logs v of its settings, whose minimum
moves as v* = M (1, ln N, ln D). With one curvature H for all cells, and a level for each, the log
loss is linear in H and in G = −2 H M: all cells are fitted together by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agent_scaling.scaling.intervals import LEVEL

NEAR = 1.25
"""The quadratic is fitted to settings with a loss within this factor of their cell's best, and to
:data:`FEWEST` settings of each cell at least."""

FEWEST = 3
"""Settings of a cell below which it shows no minimum along one of them."""

DRAWS = 1000
"""Surfaces drawn from the posterior, of which intervals are made."""

PROPER = 0.9
"""Share of drawn surfaces that must have a minimum; else there is no interval."""

CRITICAL = 1.2
"""Frames that a batch of the critical size needs, over those of the best batch, for one loss."""


@dataclass(frozen=True)
class Surface:
    """A fitted law of settings.

    Attributes:
        names: The settings that vary within cells.
        terms: Of M's columns: ``1``, ``N`` and ``D``, as far as they vary.
        centre: Mean ln N and ln D of the cells, about which M is.
        curvature: H, of shape (settings, settings).
        minimum: M, of shape (settings, terms).
        draws: Drawn H and M that have a minimum, each with a leading axis; empty: too few had one.
        slope: −∂ ln L / ∂ ln D of the cells' lowest losses; ``None`` where D does not vary.
        noise: Log standard deviation of a run.
        spare: Residual degrees of freedom.
        cells: Number of cells.
    """

    names: tuple[str, ...]
    terms: tuple[str, ...]
    centre: np.ndarray
    curvature: np.ndarray
    minimum: np.ndarray
    draws: tuple[np.ndarray, np.ndarray]
    slope: float | None
    noise: float
    spare: int
    cells: int

    def best(self, params: float, frames: float) -> dict[str, tuple[float, float, float]]:
        """Return each setting's best value at a size and number of frames, and its interval."""
        at = self._at(params, frames)
        middle, drawn = np.exp(self.minimum @ at), np.exp(self.draws[1] @ at)
        return {
            name: (float(middle[k]), *interval(drawn[:, k])) for k, name in enumerate(self.names)
        }

    def exponents(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Return each setting's exponents of N and of D, and their intervals."""
        return {
            name: {
                term: (float(self.minimum[k, t]), *interval(self.draws[1][:, k, t]))
                for t, term in enumerate(self.terms)
                if term != "1"
            }
            for k, name in enumerate(self.names)
        }

    def critical_batch(self, params: float, frames: float) -> tuple[float, float, float] | None:
        """Return the larger batch that costs as much as :data:`CRITICAL` times the frames.

        ``None`` where batches or frames do not vary, or more frames do not lower the loss.
        """
        if "batch" not in self.names or self.slope is None or not self.slope > 0:
            return None
        k, at = self.names.index("batch"), self._at(params, frames)
        room = self.slope * np.log(CRITICAL)
        # along the batch, the other settings at their best for it
        bend = 1 / np.linalg.inv(self.curvature)[k, k]
        bends = 1 / np.linalg.inv(self.draws[0])[:, k, k]
        value = float(np.exp(self.minimum[k] @ at + np.sqrt(room / bend)))
        return value, *interval(np.exp(self.draws[1][:, k] @ at + np.sqrt(room / bends)))

    def _at(self, params: float, frames: float) -> np.ndarray:
        n, d = np.log([params, frames]) - self.centre
        logs = {"1": 1.0, "N": n, "D": d}
        return np.array([logs[term] for term in self.terms])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return percentiles of drawn values; NaN where none were drawn."""
    if not len(values):
        return np.nan, np.nan
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def near_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Select the settings near their cell's best; ``rows`` has a row per cell and setting."""
    groups = rows.groupby(["flops", "params"])["loss"]
    near = rows["loss"] <= NEAR * groups.transform("min")
    return rows[near | (groups.rank(method="first") <= FEWEST)]


def fit_surface(rows: pd.DataFrame, names: Sequence[str]) -> Surface | None:
    """Fit the law of the settings ``names`` to rows of flops, params, samples, loss and these.

    Returns:
        The surface; ``None`` where too few cells have several settings, or it has no minimum.
    """
    used = near_best(rows)
    sizes = used.groupby(["flops", "params"])["loss"].transform("size")
    used = used[sizes >= FEWEST]
    cell = used.groupby(["flops", "params"]).ngroup().to_numpy()
    if not len(used) or any(used[name].nunique() < FEWEST for name in names):
        return None
    y = np.log(used["loss"].to_numpy(float))
    logs = np.log(used[["params", "samples"]].to_numpy(float))
    centre, settings = logs.mean(0), np.log(used[list(names)].to_numpy(float))
    middle = settings.mean(0)
    v, about = settings - middle, logs - centre
    terms = ["1", *(t for t, x in zip("ND", about.T, strict=True) if np.ptp(x) > 0.1)]
    known = {"1": np.ones(len(y)), "N": about[:, 0], "D": about[:, 1]}
    columns = np.stack([known[term] for term in terms])
    pairs = [(i, j) for i in range(len(names)) for j in range(i, len(names))]
    squares = np.stack([v[:, i] * v[:, j] * (1 if i == j else 2) for i, j in pairs], 1)
    linear = (v[:, :, None] * columns.T[:, None, :]).reshape(len(y), -1)
    design = np.concatenate([squares, linear], 1)
    levels = np.eye(cell.max() + 1)[cell]
    spare = len(y) - levels.shape[1] - design.shape[1]
    inner = design - levels @ (np.linalg.pinv(levels) @ design)
    if spare < 1 or np.linalg.matrix_rank(inner) < design.shape[1]:
        return None
    theta, *_ = np.linalg.lstsq(inner, y - levels @ (np.linalg.pinv(levels) @ y), rcond=None)
    level = np.linalg.pinv(levels) @ (y - design @ theta)
    noise = float(np.sqrt(((y - design @ theta - level[cell]) ** 2).sum() / spare))
    generator = np.random.default_rng(0)
    root = np.linalg.cholesky(np.linalg.inv(inner.T @ inner)) * noise
    scale = np.sqrt(spare / generator.chisquare(spare, (DRAWS, 1)))
    drawn = theta + scale * (generator.standard_normal((DRAWS, len(theta))) @ root.T)
    (curvature,), (minimum,), proper = _minima(theta[None], pairs, len(names))
    if not proper.all():
        return None
    curvatures, moved, proper = _minima(drawn, pairs, len(names))
    keep = proper if proper.mean() >= PROPER else np.zeros(DRAWS, bool)
    minimum[:, 0] += middle
    moved[:, :, 0] += middle
    slope = _slope(used, cell, level, minimum, curvature, columns, middle, terms)
    draws = curvatures[keep], moved[keep]
    return Surface(
        tuple(names), tuple(terms), centre, curvature, minimum, draws, slope, noise, spare,
        cells=levels.shape[1],
    )  # fmt: skip


def _minima(
    theta: np.ndarray, pairs: Sequence[tuple[int, int]], settings: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return H, M and True where H has a minimum, for parameters with a leading axis."""
    curvature = np.empty((len(theta), settings, settings))
    for k, (i, j) in enumerate(pairs):
        curvature[:, i, j] = curvature[:, j, i] = theta[:, k]
    linear = theta[:, len(pairs) :].reshape(len(theta), settings, -1)
    proper = np.linalg.eigvalsh(curvature)[:, 0] > 0
    safe = np.where(proper[:, None, None], curvature, np.eye(settings))
    return curvature, -0.5 * np.linalg.solve(safe, linear), proper


def _slope(
    used: pd.DataFrame,
    cell: np.ndarray,
    level: np.ndarray,
    minimum: np.ndarray,
    curvature: np.ndarray,
    columns: np.ndarray,
    middle: np.ndarray,
    terms: Sequence[str],
) -> float | None:
    """Return −∂ ln L / ∂ ln D of the cells' lowest losses, at equal sizes."""
    if "D" not in terms:
        return None
    first = np.unique(cell, return_index=True)[1]
    at = columns[:, first]
    best = minimum @ at - middle[:, None]
    lowest = level - np.einsum("ic,ij,jc->c", best, curvature, best)
    found, *_ = np.linalg.lstsq(at.T, lowest, rcond=None)
    return -float(found[list(terms).index("D")])
