"""Forecasts of every hold-out that the paper's published tables allow: errors and coverage.

    python benchmarks/holdouts.py [FOLDER]

Each table (NetHack, four Atari games; all budgets, and those from 2e14) is fitted on its lowest 5,
6, 7 … budgets; every later budget is forecast and compared with its best cell. FOLDER holds
``nethack_isoflop.csv``, ``atari_loss.csv`` and ``atari_return.csv``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from agent_scaling.scaling.fitting import select
from agent_scaling.scaling.fitting.forecasts import Chosen, compete
from agent_scaling.scaling.laws.profiles import best_of_grid
from agent_scaling.scaling.runs.table import read_csv, tidy

GAMES = ("Breakout", "BattleZone", "BankHeist", "Phoenix")
LOWEST = (0.0, 1.9e14)
"""FLOPs from which budgets are used: all, and those that the Atari laws are fitted to."""

DECADES = [0, 0.55, 1.05, 2.05, np.inf]
AT = [1e16, 5e16, 1e17, 2e17]
"""Highest budgets fitted of the hold-outs that are shown one by one."""


def tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and cells of each published table."""
    yield "NetHack", tidy(read_csv(str(folder / "nethack_isoflop.csv")), "NetHack").cells
    paths = [str(folder / "atari_loss.csv"), str(folder / "atari_return.csv")]
    for game in GAMES:
        yield game, tidy(read_csv(paths, game), game).cells


def hold_outs(cells: pd.DataFrame, target: str) -> Iterator[pd.DataFrame]:
    """A table for each origin: what every form, and the forecast, said of the later budgets."""
    truth = best_of_grid(cells, target)
    budgets, measured = truth["flops"].to_numpy(float), np.log(truth["value"].to_numpy(float))
    for k in range(5, len(budgets)):
        seen, x = cells[cells["flops"] <= budgets[k - 1]], np.log(budgets[k:])
        loss = compete(seen, "loss", None, None)
        chosen = loss if target == "loss" else compete(seen, target, loss.form(), None)
        mean, low, high = chosen.predict(seen, x)
        inside = (low <= measured[k:]) & (measured[k:] <= high)
        where = {"fitted_to": budgets[k - 1], "decades": np.log10(budgets[k:] / budgets[k - 1])}
        columns = {"forecast": mean, **_forms(chosen, seen, x)}
        errors = {name: np.abs(value - measured[k:]) for name, value in columns.items()}
        yield pd.DataFrame(where | {"inside": inside} | errors)


def _forms(chosen: Chosen, seen: pd.DataFrame, x: np.ndarray) -> dict[str, np.ndarray]:
    found = select.predict_each(chosen.forms, chosen.averaged, seen, x)
    ranked = {name: check.mean_error for name, check in chosen.checks.items()}
    each = {name: p.mean for name, p in found.items() if name != select.AVERAGE}
    best = min(each, key=lambda name: ranked.get(name, np.inf))
    return {"lowest past error": each[best]} | each


def main(folder: str = "../shared/reference/paper") -> None:
    console, summary = Console(width=160), {}
    if not Path(folder).is_dir():  # a user's clone
        console.print(f"no published tables in {folder}: give their folder")
        return
    for target in ("loss", "return"):
        parts = [
            part.assign(game=name, lowest=lowest)
            for name, cells in tables(Path(folder))
            for lowest in LOWEST
            for part in hold_outs(cells[cells["flops"] > lowest], target)
        ]
        found = pd.concat(parts)
        ahead = pd.cut(found["decades"], DECADES, labels=["<=.5", "<=1", "<=2", ">2"])
        names = [c for c in found if c not in ("fitted_to", "decades", "inside", "game", "lowest")]
        groups = found.groupby(ahead, observed=True)
        table = groups[names].mean().T.assign(all=found[names].mean(), median=found[names].median())
        console.print(f"{target}: mean absolute log error, by decades ahead\n{table.round(3)}")
        coverage = groups["inside"].agg(["mean", "size"]).T.assign(all=found["inside"].mean())
        console.print(f"{target}: coverage of nominal 90 %\n{coverage.round(3)}")
        console.print(found.groupby("game")[["forecast", "inside"]].mean().round(3))
        shown = found[np.isclose(found["fitted_to"].to_numpy()[:, None], AT).any(1)]
        cuts = shown.pivot_table(index=["game", "lowest"], columns="fitted_to", values="forecast")
        console.print(f"{target}: mean error of the forecast by highest budget\n{cuts.round(3)}")
        summary[target] = {
            "hold_outs": len(found),
            "mean_error": found["forecast"].mean(),
            "median_error": found["forecast"].median(),
            "mean_error_of_lowest_past_error": found["lowest past error"].mean(),
            "mean_error_to_two_decades": found["forecast"][found["decades"] <= 2.05].mean(),
            "coverage": found["inside"].mean(),
        }
    console.file.flush()
    print(json.dumps(summary))


if __name__ == "__main__":
    main(*sys.argv[1:])
