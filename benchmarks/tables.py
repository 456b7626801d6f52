"""Forecasts of every budget from those below it, on each table: errors, coverage, Winkler scores.

    python benchmarks/tables.py [FOLDER] [OURS=THEIRS …]
    python benchmarks/tables.py drawn [SEEDS]

FOLDER holds CSVs as ``fit`` reads them (``docs/fits.md``); OURS=THEIRS renames a column
(``loss=test_loss``). Files whose names differ by ``loss`` and ``return`` alone are one table, and
each ``game`` of a table is one of its own. ``drawn`` draws tables from published laws, whose best
sizes are known.

Each table is fitted on its lowest 5, 6, 7 … budgets, and every later budget is forecast and
compared with its best cell. Errors and widths are of logarithms; the Winkler score of a 90 %
interval is its width, and 20 times what a value lies outside. The oracle takes, for each
prediction, the single form that turned out nearest.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from drawn_tables import Table, drawn_tables
from rich.console import Console

from agent_scaling.scaling.fitting import select
from agent_scaling.scaling.fitting.forecasts import Chosen, compete
from agent_scaling.scaling.fitting.optimal_sizes import optimal_sizes
from agent_scaling.scaling.intervals import LEVEL
from agent_scaling.scaling.laws.profiles import best_of_grid, parabolas
from agent_scaling.scaling.runs.table import COLUMNS, read_csv, tidy

FIRST = 5
"""Budgets of the first fit."""

DECADES, LABELS = [0, 0.55, 1.05, 2.05, np.inf], ["<=.5", "<=1", "<=2", ">2"]


def read_tables(folder: Path, columns: Mapping[str, str]) -> Iterator[Table]:
    """Yield each game of each group of files."""
    groups: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.csv")):
        key = re.sub(r"[_-]?(loss|returns?)$", "", path.stem)
        groups.setdefault(key or path.stem, []).append(str(path))
    for name, paths in groups.items():
        header = pd.read_csv(paths[0])
        games = sorted(header["game"].astype(str).unique()) if "game" in header else [None]
        for game in games:
            rows = read_csv(paths, game).rename(columns={v: k for k, v in columns.items()})
            yield Table(game or name, tidy(rows, name).cells)


def hold_outs(table: Table, target: str) -> Iterator[pd.DataFrame]:
    """Yield, for each origin, what the forecast and every single form said of the later budgets."""
    cells, truth = table.cells, best_of_grid(table.cells, target)
    budgets, measured = truth["flops"].to_numpy(float), np.log(truth["value"].to_numpy(float))
    for k in range(FIRST, len(budgets)):
        seen, x = cells[cells["flops"] <= budgets[k - 1]], np.log(budgets[k:])
        loss = compete(seen, "loss", None, None) if (cells["loss"] > 0).any() else None
        chosen = loss
        if target == "return" or chosen is None:
            chosen = compete(seen, target, loss.form() if loss else None, None)
        mean, low, high = chosen.predict(seen, x)
        errors = {"forecast": mean} | single_forms(chosen, seen, x)
        parts = {name: np.abs(value - measured[k:]) for name, value in errors.items()}
        singles = [error for name, error in parts.items() if name != "forecast"]
        parts["oracle"] = np.nanmin(singles, axis=0)
        where = {"fitted_to": budgets[k - 1], "decades": np.log10(budgets[k:] / budgets[k - 1])}
        scores = winkler(low, high, measured[k:])
        yield pd.DataFrame(where | scores | parts).assign(table=table.name)


def single_forms(chosen: Chosen, seen: pd.DataFrame, x: np.ndarray) -> dict[str, np.ndarray]:
    """Log predictions of every form alone."""
    found = select.predict_each(chosen.forms, chosen.averaged, seen, x)
    return {name: p.mean for name, p in found.items() if name != select.AVERAGE}


def winkler(low: np.ndarray, high: np.ndarray, value: np.ndarray) -> dict[str, np.ndarray]:
    """Coverage and score of log intervals."""
    outside = np.maximum(low - value, 0) + np.maximum(value - high, 0)
    return {"inside": outside == 0, "winkler": high - low + 2 / (1 - LEVEL) * outside}


def size_hold_outs(table: Table) -> Iterator[pd.DataFrame]:
    """Yield forecasts of N_opt: against the law where it is known, else the later minima."""
    known = table.cells[table.cells["loss"] > 0]
    budgets, points = np.sort(known["flops"].unique()), parabolas(known, "loss")
    later = points[points["flag"] == ""].set_index("flops")["params"]
    for k in range(FIRST, len(budgets)):
        ahead = budgets[k:]
        truth = table.best(ahead) if table.best else later.reindex(ahead).to_numpy(float)
        judged = np.isfinite(truth)
        seen = known[known["flops"] <= budgets[k - 1]]
        found = optimal_sizes(seen, np.log(ahead), "loss").logs.get("params")
        if found is None or not judged.any():
            continue
        mean, low, high = (part[judged] for part in found)
        value = np.log(truth[judged])
        two = np.isfinite(low) & np.isfinite(high)
        columns = {"fitted_to": budgets[k - 1], "decades": np.log10(ahead[judged] / budgets[k - 1])}
        columns |= {"inside": (low <= value) & (value <= high)}
        scored = winkler(low, high, value)["winkler"], np.abs(mean - value)
        names = ("winkler", "error")  # a bound has neither
        columns |= {n: np.where(two, v, np.nan) for n, v in zip(names, scored, strict=True)}
        yield pd.DataFrame(columns | {"one_sided": ~two, "table": table.name})


def by_distance(found: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Means of columns by decades ahead, up to two decades, and of all."""
    ahead = pd.cut(found["decades"], DECADES, labels=LABELS)
    table = found.groupby(ahead, observed=True)[names].mean().T
    near = found[found["decades"] <= DECADES[-2]]
    return table.assign(**{"to two": near[names].mean(), "all": found[names].mean()}).round(3)


def report(
    console: Console, found: pd.DataFrame, target: str, errors: list[str]
) -> dict[str, float]:
    """Print a target's tables; its line of the summary."""
    console.print(f"{target}: mean absolute log error by decades ahead, {len(found)} predictions")
    console.print(by_distance(found, errors).to_string())
    near = found[found["decades"] <= DECADES[-2]]
    names = [errors[0], "inside", "winkler", *(["oracle"] if "oracle" in errors else [])]
    tables = near.groupby("table")[names].mean().round(3)
    console.print(f"{target}: per table, up to two decades ahead\n{tables.to_string()}")
    low, high = tables["inside"].min(), tables["inside"].max()
    held = tables["inside"].between(0.85, 0.95).mean()
    console.print(f"{target}: coverage {low:.2f} to {high:.2f}; .85 to .95 in {held:.0%} of tables")
    means = near[names].mean()
    return {"predictions": len(found)} | {name: round(float(means[name]), 4) for name in names}


def main(tables: list[Table]) -> None:
    """Forecast, print, and end with one JSON object."""
    console, summary = Console(width=200, highlight=False), {}
    for target in ("loss", "return"):
        have = [t for t in tables if (t.cells[target] > 0).any()]
        parts = [part for table in have for part in hold_outs(table, target)]
        if not parts:
            continue
        found = pd.concat(parts, ignore_index=True)
        apart = ("fitted_to", "decades", "inside", "winkler", "table")
        errors = [name for name in found if name not in apart]
        summary[target] = report(console, found, target, errors)
        if target == "loss":
            nethack(console, found[found["table"].str.contains("nethack", case=False)])
    parts = [
        part
        for table in tables
        if (table.cells["loss"] > 0).any()
        for part in size_hold_outs(table)
    ]
    if parts:
        found = pd.concat(parts, ignore_index=True)
        found["table"] = found["table"].str.partition(":")[0]  # designs of drawn tables together
        summary["N_opt"] = report(console, found, "N_opt", ["error", "one_sided"])
    console.file.flush()
    print(json.dumps(summary))


def nethack(console: Console, found: pd.DataFrame) -> None:
    """The hold-outs of the paper's own table that its forecasts are judged by."""
    for origin, ahead in ((1e16, 1e17), (1e17, 1e18)):
        row = found[np.isclose(found["fitted_to"], origin)]
        row = row[np.isclose(row["decades"], np.log10(ahead / origin))]
        if len(row):
            console.print(
                f"NetHack's loss, {origin:.0e} to {ahead:.0e}: {row['forecast'].item():.3f}"
            )


if __name__ == "__main__":
    folder, *rest = sys.argv[1:] or ["../shared/reference/paper"]
    if folder == "drawn":
        main(list(drawn_tables(int(rest[0]) if rest else 2)))
    elif not Path(folder).is_dir():  # a user's clone
        print(f"no tables in {folder}: give their folder")
    else:
        given = dict(pair.split("=", 1) for pair in rest)
        if wrong := set(given) - set(COLUMNS):
            sys.exit(f"{sorted(wrong)}: name columns of {sorted(COLUMNS)}")
        main(list(read_tables(Path(folder), given)))
