"""Compute multipliers: how much more compute one recipe needs for the loss of another."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from agent_scaling.scaling.intervals import t_value
from agent_scaling.scaling.laws.curves import Curve, fit_power

FEWEST = 3
"""Budgets that the reference's law needs."""

DECADES = 6.0
"""Reach of the search for the reference's compute, above and below its own budgets."""

POINTS = 20_001
"""Points of that search."""


@dataclass(frozen=True)
class Multiplier:
    """One variant at one budget, against the reference's law.

    Attributes:
        variant: Name of the variant.
        flops: The nominal budget, training FLOPs.
        loss: Its best held-out loss there, nats per action.
        spent: The variant's spending on it, in the unit of the comparison.
        multiplier: The reference's spending for the same loss, divided by ``spent``.
        low: Lower end of its 90 % interval.
        high: Upper end; None where the interval is unbounded.
        extrapolated: True where the reference never reached this loss.
    """

    variant: str
    flops: float
    loss: float
    spent: float
    multiplier: float
    low: float
    high: float | None
    extrapolated: bool


def best_cells(cells: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Each variant's best size at each budget, seeds averaged: variant, flops, loss, spent.

    Args:
        cells: Columns variant, flops, params, eval_loss and ``cost``.
        cost: The column that holds what a run spent.
    """
    kept = cells[(cells["eval_loss"] > 0) & (cells[cost] > 0)]
    kept = kept.assign(spent=kept[cost])  # of flops too, which are a key of the groups
    groups = kept.groupby(["variant", "flops", "params"], sort=False)
    means = groups.agg(loss=("eval_loss", "mean"), spent=("spent", "mean")).reset_index()
    return means.sort_values(["flops", "loss"]).drop_duplicates(["variant", "flops"])


def multipliers(cells: pd.DataFrame, reference: str, cost: str = "flops") -> list[Multiplier]:
    """Compare every variant with ``reference`` at each of its budgets.

    The reference's best losses are fitted by a power law of ``cost``, and the law is solved for the
    other's loss. The interval is that of linear calibration: all spendings at which a new point of
    the reference may have that loss (Draper and Smith, *Applied Regression Analysis*, §3.2).

    Args:
        cells: A row per measured cell, as a study's ``cells.csv`` has them.
        reference: The variant that the others are compared with.
        cost: ``flops`` or ``cpu_seconds``.

    Returns:
        A multiplier per other variant and budget; none where the reference has too few budgets.
    """
    best = best_cells(cells, cost)
    own = best[best["variant"] == reference]
    if len(own) < FEWEST:
        return []
    x, y = np.log(own["spent"].to_numpy(float)), np.log(own["loss"].to_numpy(float))
    law = fit_power(x, y)
    if law.theta[1] >= 0:
        return []  # its loss does not fall with compute
    others = best[best["variant"] != reference].sort_values(["variant", "flops"])
    return [_against(law, x, y, row) for _, row in others.iterrows()]


def table(found: list[Multiplier]) -> pd.DataFrame:
    """A row per multiplier."""
    return pd.DataFrame([asdict(one) for one in found])


def _against(law: Curve, x: np.ndarray, y: np.ndarray, row: pd.Series) -> Multiplier:
    """Solve the reference's law for one cell's loss."""
    value, spent = float(np.log(row["loss"])), float(row["spent"])
    solved = (value - law.theta[0]) / law.theta[1]
    reach = DECADES * np.log(10)
    at = np.linspace(min(x.min(), solved) - reach, max(x.max(), solved) + reach, POINTS)
    if law.spare > 0:
        wide = t_value(law.spare) * law.standard_error(at)
        inside = np.append(at[np.abs(value - law(at)) <= wide], solved)
    else:
        inside = at[[0, -1]]
    low, high = inside.min(), inside.max()
    return Multiplier(
        variant=str(row["variant"]),
        flops=float(row["flops"]),
        loss=float(row["loss"]),
        spent=spent,
        multiplier=float(np.exp(solved) / spent),
        low=float(np.exp(low) / spent) if low > at[0] else 0.0,
        high=float(np.exp(high) / spent) if high < at[-1] else None,
        extrapolated=bool(value < y.min()),
    )
