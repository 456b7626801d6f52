"""Chooses, of cells run on several sets of games or with several settings, the rows of the laws."""

from __future__ import annotations

import numpy as np
import pandas as pd

CELL = ["flops", "params"]
SETTINGS = ["lr", "batch"]


def settled(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep each cell's rows of the most distinct frames, and of those the best rate and batch.

    Laws of size and budget are of data that is as fresh as it can be, at the best setting. The best
    has the lowest mean log loss, or the highest mean return where no loss is known.

    Returns:
        The rows kept, and a flag for each column in which others were left out.
    """
    flags = []
    if rows["unique"].notna().any():
        most = rows.groupby(CELL)["unique"].transform("max")
        kept = rows[most.isna() | (rows["unique"] >= most)]
        flags += _flag(rows, kept, "of fewer distinct frames (unique)")
        rows = kept
    if rows[SETTINGS].notna().any(axis=None):
        kept = rows[_best(rows)]
        flags += _flag(rows, kept, "with other settings (lr, batch) than their cell's best")
        rows = kept
    return rows.reset_index(drop=True), flags


def _best(rows: pd.DataFrame) -> pd.Series:
    """Return True for the rows of the setting that is best in their cell."""
    by_loss = bool(rows["loss"].notna().any())
    value = np.log(rows["loss"].where(rows["loss"] > 0)) if by_loss else -rows["return"]
    keys = [rows[name].fillna(0.0) for name in (*CELL, *SETTINGS)]
    mean = value.groupby(keys).transform("mean").fillna(np.inf)
    best: pd.Series = mean <= mean.groupby(keys[:2]).transform("min")
    return best


def _flag(rows: pd.DataFrame, kept: pd.DataFrame, what: str) -> list[str]:
    left = len(rows) - len(kept)
    return (
        [f"several settings: {left} rows {what} are left out of the laws of size"] if left else []
    )
