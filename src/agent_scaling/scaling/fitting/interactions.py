"""Laws of the return against frames played, for each size and for the best size at equal frames.

Where a policy learns by playing, frames are interactions with the game, which may cost more than
FLOPs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws.curves import fit_power

FEWEST = 3
"""Fewest points that give a power law's exponent an interval."""


def against_frames(cells: pd.DataFrame) -> dict[str, Any] | None:
    """Fit power laws R ∝ D^k to each size over its budgets, and to the best size at equal frames.

    ``sizes`` and ``best`` hold the exponent with its t-interval and ``log_coefficient``; ``best``
    also holds its ``points``. ``None`` where no size has a return at three numbers of frames.
    """
    known = cells[(cells["return"] > 0) & (cells["samples"] > 0)]
    sizes = [
        {"params": float(own["params"].iloc[0])} | _power(own["samples"], own["return"])
        for _, own in known.groupby("params")
        if len(own) >= FEWEST
    ]
    if not sizes:
        return None
    points = best_at_equal_frames(known)
    best = _power(points["frames"], points["return"]) if len(points) >= FEWEST else None
    return {"sizes": sizes, "best": best and best | {"points": points}}


def best_at_equal_frames(cells: pd.DataFrame) -> pd.DataFrame:
    """Find the best size at numbers of frames that two or more sizes have played.

    Sizes reach different numbers of frames at equal budgets, so each size's log return is
    interpolated linearly in log frames. There are as many points as budgets, even in log frames.
    Returns rows of frames, params and return.
    """
    curves = {
        float(own["params"].iloc[0]): tuple(np.log(own[["samples", "return"]].to_numpy().T))
        for _, own in cells.sort_values("samples").groupby("params")
    }
    ends = np.sort([(x[0], x[-1]) for x, _ in curves.values()], axis=0)
    if len(ends) < 2:
        return pd.DataFrame(columns=["frames", "params", "return"])
    rows = []
    for at in np.linspace(ends[1, 0], ends[-2, 1], cells["flops"].nunique()):
        there = {n: float(np.interp(at, *xy)) for n, xy in curves.items() if _within(at, xy[0])}
        if len(there) > 1:
            size = max(there, key=there.__getitem__)
            rows.append((float(np.exp(at)), size, float(np.exp(there[size]))))
    return pd.DataFrame(rows, columns=["frames", "params", "return"])


def _within(at: float, x: np.ndarray) -> bool:
    return bool(x[0] - 1e-9 <= at <= x[-1] + 1e-9)


def _power(x: pd.Series, y: pd.Series) -> dict[str, Any]:
    curve = fit_power(np.log(x.to_numpy(float)), np.log(y.to_numpy(float)))
    found = {"exponent": float(curve.theta[1]), "interval": curve.interval(1)}
    return found | {"log_coefficient": float(curve.theta[0]), "points": len(x)}
