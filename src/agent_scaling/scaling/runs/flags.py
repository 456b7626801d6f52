"""Flags what rows and cells lack, have twice, or hold that no law can use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd


def _cell(row: pd.Series) -> str:
    return f"{row['flops']:.3g} FLOPs, {row['params']:.0f} parameters"


def flag_rows(rows: pd.DataFrame, zero: Mapping[str, float]) -> list[str]:
    """Return a line for each value that a row lacks or that no law can use.

    ``zero`` holds the value of a column above which it is used, 0 where absent.
    """
    names = ("samples", "loss", "return")
    absent = [name for name in names if rows[name].isna().all()]
    flags = [f"missing metric: no {name} anywhere" for name in absent]
    groups = rows.groupby(["flops", "params"])
    failed = ~rows["status"].map(str).isin(["nan", "None", "FINISHED"]).to_numpy()
    # With several files, another row of the cell may hold the metric that this one lacks.
    elsewhere = {name: (groups[name].transform("count") > 0) & rows["partial"] for name in names}
    lacking = {
        name: (rows[name].isna() & ~elsewhere[name] & (name not in absent)).to_numpy()
        for name in names
    }
    flat = {
        name: ((rows[name] <= zero.get(name, 0.0)) | np.isinf(rows[name])).to_numpy()
        for name in names
    }
    for number in np.flatnonzero(np.any([failed, *lacking.values(), *flat.values()], axis=0)):
        row = rows.iloc[number]
        where = f"{_cell(row)} (run {row['run']})"
        if failed[number]:
            flags.append(f"failed run: {where} is {row['status']}; what it measured is used")
        for name in names:
            if lacking[name][number]:
                kind = "NaN loss" if name == "loss" else "missing metric"
                flags.append(f"{kind}: {where} has no {name}; left out of its fits")
            elif flat[name][number]:
                flags.append(f"no logarithm: {where} has {name} {row[name]:g}; left out of fits")
    return flags


def flag_cells(rows: pd.DataFrame, cells: pd.DataFrame, zero: Mapping[str, float]) -> list[str]:
    """Return a line for each cell of several values, few points, or missing seeds."""
    flags = []
    for name in ("loss", "return"):
        keys = ["flops", "params", "seed"]
        counts = rows[rows[name].notna()].groupby(keys, dropna=False)[name].agg(["size"])
        flags += [
            f"duplicate cell: {_cell(row)}{_seed(row)} has {row['size']:.0f} values of {name}; "
            "averaged"
            for _, row in counts[counts["size"] > 1].reset_index().iterrows()
        ]
        sizes = cells[cells[name] > zero.get(name, 0.0)].groupby("flops")["params"].count()
        flags += [
            f"few points: {flops:.3g} FLOPs has {count} sizes with {name}; no parabola"
            for flops, count in sizes[sizes < 3].items()
        ]
    return flags + _missing_seeds(rows)


def _seed(row: pd.Series) -> str:
    return "" if np.isnan(row["seed"]) else f", seed {row['seed']:.0f}"


def _missing_seeds(rows: pd.DataFrame) -> list[str]:
    """Flag each cell that lacks a seed which at least half of the cells have."""
    cells = rows.groupby(["flops", "params"])["seed"].agg(set).reset_index()
    counts = cells["seed"].explode().dropna().value_counts()
    usual = set(counts[counts >= len(cells) / 2].index)
    flags = []
    for _, cell in cells[[not usual <= seeds for seeds in cells["seed"]]].iterrows():
        absent = ", ".join(f"{seed:.0f}" for seed in sorted(usual - cell["seed"]))
        flags.append(f"missing seed: {_cell(cell)} lacks seed {absent}")
    return flags
