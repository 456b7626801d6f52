"""Widens intervals by what an estimated lowest return leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent_scaling.scaling.fitting.analysis import laws_of_return
from agent_scaling.scaling.fitting.forecasts import forecast_of
from agent_scaling.scaling.fitting.interactions import against_frames
from agent_scaling.scaling.runs.lowest import moved_row
from agent_scaling.scaling.runs.table import Runs


def widen_laws(fitted: Mapping[str, Any], runs: Runs) -> None:
    """Widen the intervals of all exponents of ``fitted`` that returns enter, in place.

    The laws are fitted again with the lowest return at either end of its interval. What an exponent
    moves by is added to its interval in quadrature.
    """
    if runs.lowest is None or runs.lowest.ends is None:
        return
    others = []
    for zero in runs.lowest.ends:
        cells = runs.counted(zero).cells
        frames = against_frames(cells) if fitted["return_against_frames"] else None
        laws = laws_of_return(cells, fitted["return_from_loss"] is not None)
        others.append(laws | {"return_against_frames": frames})
    for name in ("return_from_loss", "return_against_frames"):
        _widen(fitted[name], [other[name] for other in others])
    for name in ("best_of_grid", "parabola"):
        _widen(fitted[name].get("return"), [other[name]["return"] for other in others])


def forecast_above(
    runs: Runs, ahead: np.ndarray, flags: list[str], expert: float | None
) -> dict[str, Any]:
    """Forecast what lies above the lowest return, as :func:`forecasts.forecast_of`.

    ``runs`` and ``expert`` hold returns themselves. The intervals of returns are widened by
    forecasts with the lowest return at either end of its interval.
    """

    def above(zero: float, flags: list[str]) -> dict[str, Any]:
        bound = expert - zero if expert is not None else None
        return forecast_of(runs.counted(zero), ahead, flags, bound)

    found = above(runs.zero, flags)
    if runs.lowest is None or runs.lowest.ends is None:
        return found
    others = [(zero - runs.zero, above(zero, [])["forecast"]) for zero in runs.lowest.ends]
    for number, row in enumerate(found["forecast"]):
        if "return" in row:
            moved = [moved_row(rows[number], by)["return"] for by, rows in others]
            ends = widened(row["return"], row["return_interval"], moved)
            most = np.inf if runs.highest is None else runs.highest - runs.zero
            row["return_interval"] = [min(end, most) for end in ends]
    return found


def _widen(law: object, others: Sequence[object]) -> None:
    held = [other for other in others if isinstance(other, dict)]
    if not isinstance(law, dict):
        return
    if law.get("exponent") is not None and law.get("interval"):
        moved = [other["exponent"] for other in held if other.get("exponent") is not None]
        law["interval"] = widened(law["exponent"], law["interval"], moved)
    for name, part in law.items():
        _widen(part, [other.get(name) for other in held])


def widened(value: float, interval: Sequence[float], moved: Sequence[float]) -> tuple[float, float]:
    """Return an interval with the distances to ``moved`` added to its halves, in quadrature."""
    low, high = interval
    down, up = max([0.0, *(value - m for m in moved)]), max([0.0, *(m - value for m in moved)])
    return float(value - np.hypot(value - low, down)), float(value + np.hypot(high - value, up))
