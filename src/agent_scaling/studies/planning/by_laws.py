"""Runs by the laws of repeated data and of hyper-parameters: passes, learning rates, batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.formats import short
from agent_scaling.runtime.terminal import plain_console
from agent_scaling.scaling.fitting.hyper import surface
from agent_scaling.scaling.fitting.repeated import more_games
from agent_scaling.scaling.forecast import runs_of
from agent_scaling.scaling.runs.fit_file import read_fit_of_runs
from agent_scaling.scaling.runs.plain_json import plain


def best_of_repeated(
    fit: str, budget: float, unique: float, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Return the forecast of the best run on ``unique`` distinct frames; print it beside others.

    Raises:
        InputError: The fit has no law of repeated data, ``unique`` is not above 0, or the fit's
            runs are in another store than the user's, by default that of the environment.
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
    rows = more_games(runs_of(fitted, tracking_uri).every, str(laws["chosen"]), budget, unique)
    show(rows, str(laws["chosen"]))
    return {"law": laws["chosen"], "more_games": plain(rows[1:])} | rows[0]


def settings_by(
    fit: str, tracking_uri: str | None = None
) -> Callable[[float, float, int], dict[str, float]]:
    """Return the law of settings of a fit: (parameters, frames, frames of a lane in a step) → keys.

    The keys are ``optimizer.lr`` and ``data.lanes``, those of them that the law has.

    Raises:
        InputError: The fit has no such law, or its runs are in another store than the user's, by
            default that of the environment.
    """
    fitted = read_fit_of_runs(fit, "hyper")
    law = surface(runs_of(fitted, tracking_uri).every) if fitted.get("hyper") else None
    if law is None:
        raise InputError(
            f"hyper={fit}: no law of lr or batch; fit a table with a column `lr` or `batch` whose "
            "cells were run with three values or more (study=learning_rate makes one)"
        )

    def settings(params: float, frames: float, length: int) -> dict[str, float]:
        best = law.best(params, frames)
        found: dict[str, float] = {}
        if "lr" in best:
            found["optimizer.lr"] = float(f"{best['lr'][0]:.3g}")
        if "batch" in best:
            found["data.lanes"] = max(1, round(best["batch"][0] / length))
        return found

    return settings


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
    plain_console().print(table)
