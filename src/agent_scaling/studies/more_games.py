"""The best run at a budget where games repeat, and what more distinct games would buy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.formats import short
from agent_scaling.scaling.fitting.repeated import more_games
from agent_scaling.scaling.forecast import runs_of
from agent_scaling.scaling.runs.fit_file import read_fit_of_runs
from agent_scaling.scaling.runs.plain_json import plain


def best_of_repeated(fit: str, budget: float, unique: float) -> dict[str, Any]:
    """Return the forecast of the best run on ``unique`` distinct frames; print it beside others.

    Raises:
        InputError: The fit has no law of repeated data, or ``unique`` is not above 0.
    """
    if not unique > 0:
        raise InputError(f"unique={unique:g}: give the frames of distinct games, above 0")
    fitted = read_fit_of_runs(fit)
    laws = fitted.get("repeated")
    if not laws:
        raise InputError(
            f"fit={fit}: no law of repeated data; fit a table with a column `unique` whose runs "
            "saw their games several times (study=data_size makes one)"
        )
    rows = more_games(runs_of(fitted).every, str(laws["chosen"]), budget, unique)
    show(rows, str(laws["chosen"]))
    return {"law": laws["chosen"], "more_games": plain(rows[1:])} | rows[0]


def show(rows: Sequence[Mapping[str, Any]], law: str) -> None:
    """Print a row for each number of distinct frames."""
    title = f"best run at {rows[0]['flops']:.3g} FLOPs by its distinct frames ({law}, 90 %)"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for column in ("distinct", "parameters", "frames", "passes", "loss", "interval of loss"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        fresh = math.isinf(row["unique"])
        low, high = row["loss_interval"]
        table.add_row(
            "all new" if fresh else short(row["unique"]),
            short(row["params"], 3),
            short(row["frames"], 3),
            "1" if fresh else f"{max(row['passes'], 0):.3g}",
            f"{row['loss']:.4g}",
            f"{low:.4g} to {high:.4g}",
        )
    Console().print(table)
