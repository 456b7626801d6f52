"""Flags cells whose value is far from their neighbours'; the fits still use them."""

from __future__ import annotations

import numpy as np
import pandas as pd

FAR = np.log(2.0)
"""Least log distance from the line between its neighbours at which a cell is flagged."""


def outliers(cells: pd.DataFrame, target: str) -> list[str]:
    """Return a flag for each cell that is far from its neighbours in size and in budget.

    The farthest cell is flagged and removed before the others are examined, so that its neighbours
    are not flagged because of it. A cell without neighbours on both sides is not judged.
    """
    known, lines = cells[cells[target] > 0].reset_index(drop=True), list[str]()
    while len(known) > 2:
        far = _far(known, target)
        worst = int(np.abs(far).argmax())
        if not abs(far[worst]) > FAR:
            break
        row = known.iloc[worst]
        lines.append(
            f"outlier: {row['flops']:.3g} FLOPs, {row['params']:.0f} parameters has {target} "
            f"{row[target]:.4g}, {np.exp(far[worst]):.2g} times what its neighbours say; it is used"
        )
        known = known.drop(index=worst).reset_index(drop=True)
    return lines


def _far(known: pd.DataFrame, target: str) -> np.ndarray:
    """Return each cell's log distance from its neighbours, the smaller of both directions, or 0."""
    y = np.log(known[target].to_numpy(float))
    off = np.stack([_off_line(known, y, *by) for by in (("flops", "params"), ("params", "flops"))])
    nearer = np.where(np.isnan(off), np.inf, np.abs(off)).argmin(0)
    far: np.ndarray = np.nan_to_num(off[nearer, np.arange(len(y))])
    return far


def _off_line(known: pd.DataFrame, y: np.ndarray, within: str, along: str) -> np.ndarray:
    """Return each cell's distance from the line between its two neighbours ``along``, else NaN."""
    group, x = known[within].to_numpy(float), np.log(known[along].to_numpy(float))
    order = np.lexsort((x, group))
    before, here, after = order[:-2], order[1:-1], order[2:]
    inner = (group[before] == group[here]) & (group[here] == group[after])
    before, here, after = before[inner], here[inner], after[inner]
    share = (x[here] - x[before]) / (x[after] - x[before])
    off = np.full(len(y), np.nan)
    off[here] = y[here] - (1 - share) * y[before] - share * y[after]
    return off
