"""The library's scaling laws: fits a table of runs in memory, without writing files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.fit import analyse
from agent_scaling.scaling.fitting.lowest import forecast_above
from agent_scaling.scaling.runs.budgets import MERGE_WITHIN
from agent_scaling.scaling.runs.lowest import moved_row
from agent_scaling.scaling.runs.table import Runs, read_csv, tidy

QUANTITIES = ("N_opt", "D_opt", "optimum")
PREDICTED = ("params", "frames", "loss", "return")


@dataclass(frozen=True)
class Laws:
    """Scaling laws fitted to a table of runs."""

    runs: Runs
    """The table that was fitted: its rows, and the cells that average the rows of equal budget and
    size."""
    fitted: dict[str, Any]
    """The whole result, in the shape of ``fit.json`` (``docs/fits.md``)."""

    @property
    def exponents(self) -> pd.DataFrame:
        """The exponents of power laws of C: a row per form, target (loss, return) and quantity.

        The quantities are those of each budget's best size: ``N_opt`` parameters, ``D_opt`` frames
        and ``optimum``, the target's value. ``low`` and ``high`` are the ends of the 90 % interval
        of ``exponent``, NaN where there is none.
        """
        unknown = np.nan, np.nan
        rows = [
            {
                "form": form, "target": target, "quantity": name, "exponent": law[name]["exponent"],
                **dict(zip(("low", "high"), law[name]["interval"] or unknown, strict=True)),
            }
            for form in ("best_of_grid", "parabola")
            for target, law in self.fitted[form].items()
            for name in QUANTITIES
            if law[name]
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def flags(self) -> list[str]:
        """Warnings about the data and the fits, one line each: ``kind: detail``."""
        return list(self.fitted["flags"])

    def forecast(self, flops: float | Sequence[float]) -> pd.DataFrame:
        """Forecast the best run at budgets that no run has reached.

        Args:
            flops: One budget or several, training FLOPs.

        Returns:
            A row per budget: ``flops``, then those of ``params``, ``frames``, ``loss`` (nats per
            action) and ``return`` that the runs have, each with the ends of its 90 % interval
            (``loss_low``, ``loss_high``).
        """
        budgets = np.atleast_1d(np.asarray(flops, float))
        found = forecast_above(self.runs, budgets, [], self.fitted["expert_return"])["forecast"]
        rows = []
        for row in (moved_row(row, self.runs.zero, self.runs.highest) for row in found):
            flat = {"flops": row["flops"]}
            for name in PREDICTED:
                if name in row:
                    low, high = row[f"{name}_interval"]
                    flat |= {name: row[name], f"{name}_low": low, f"{name}_high": high}
            rows.append(flat)
        return pd.DataFrame(rows)


def fit_laws(
    table: pd.DataFrame | str | Path,
    *,
    game: str | None = None,
    where: Mapping[str, object] | None = None,
    columns: Mapping[str, str] | None = None,
    budgets: tuple[float, float] | None = None,
    merge_within: float = MERGE_WITHIN,
    bootstraps: int = 0,
    seed: int = 0,
    expert_return: float | None = None,
    lowest_return: float | None = None,
    highest_return: float | None = None,
) -> Laws:
    """Fit the scaling laws to a table of runs.

    Args:
        table: A row per trained policy and budget, or a CSV of them: ``params``, ``flops``,
            ``samples`` (frames), ``loss`` (nats per action) or ``return`` or both. ``docs/fits.md``
            lists further columns and other accepted names.
        game: The game to fit, where a CSV holds several.
        where: Values of columns that a CSV's rows must have, such as ``{"dataset": "c4"}``; a
            value of None takes any.
        columns: A CSV's own names of columns, such as ``{"params": "n_parameters"}``.
        budgets: Lowest and highest budget used, FLOPs; None: all.
        merge_within: Largest spread, as a fraction, of a cluster of FLOPs that is merged into one
            budget; 0: none are merged.
        bootstraps: Resamples for the bootstrap intervals in ``fitted``; 0: none.
        seed: Seed of the resampling.
        expert_return: Return at which the ``expert`` form saturates; None: the table's own, if any.
        lowest_return: Return that laws count from; None: 0, or an estimate where returns lie below
            0.
        highest_return: Highest return that the game's rules allow, which no forecast passes; None:
            not known.

    Raises:
        InputError: The CSV cannot be read, columns are missing, fewer than three budgets have a
            value above 0 or the lowest return, the expert's return does not lie above it, or a
            return lies above the highest one.
    """
    bounds = {"lowest_return": lowest_return, "highest_return": highest_return}
    if isinstance(table, pd.DataFrame):
        runs = tidy(table, "table", budgets, merge_within, **bounds)
    else:
        rows = read_csv(str(table), game, where, columns)
        runs = tidy(rows, f"{table}", budgets, merge_within, **bounds)
    ahead = [10 * float(runs.cells["flops"].max())]
    return Laws(runs, analyse(runs, ahead, bootstraps, seed, runs.expert(expert_return)))
