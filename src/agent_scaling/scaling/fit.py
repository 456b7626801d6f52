"""``agent-scaling fit``: from a table of runs to laws, their intervals and a forecast."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.errors import InputError
from agent_scaling.scaling import analysis, forecasts
from agent_scaling.scaling.runs import Runs, read_csv, tidy
from agent_scaling.scaling.table import print_fit

FILE = "fit.json"


def fit(
    *,
    source: str,
    path: str | Sequence[str] | None = None,
    study: str | None = None,
    tracking_uri: str = "sqlite:///mlflow.db",
    game: str | None = None,
    budgets: Sequence[float] | None = None,
    forecast: Sequence[float] | float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    figures: bool = True,
    output: str,
) -> dict[str, Any]:
    """Fit the scaling laws and write ``fit.json`` and the figures to ``output``.

    Args:
        source: ``csv`` or ``mlflow``.
        path: A CSV or several that complete each other; of ``source=csv``.
        study: The tag ``study`` of the runs; of ``source=mlflow``.
        tracking_uri: The MLflow store; of ``source=mlflow``.
        game: The game to fit, where the table holds several.
        budgets: Lowest and highest budget used, FLOPs; ``None``: all.
        forecast: Budgets to predict, FLOPs; ``None``: ten times the highest.
        bootstraps: Resamples for the bootstrap intervals; 0: none.
        seed: Seed of the resampling.
        figures: Whether to draw the figures.
        output: Folder of what is written.

    Returns:
        What ``fit.json`` holds.

    Raises:
        InputError: An unusable source, path, game or range, or too few budgets.
    """
    runs = read(source, path, study, tracking_uri, game, budgets)
    ahead = _ahead(forecast, runs)
    fitted = analyse(runs, ahead, bootstraps, seed)
    origin = {"source": source, "path": path, "study": study, "game": game}
    fitted = {"origin": origin | {"tracking_uri": tracking_uri}} | fitted
    folder = Path(output)
    write_json(folder / FILE, fitted)
    drawn: list[Path] = []
    if figures:
        from agent_scaling.scaling.figures import draw  # matplotlib takes a second to import

        drawn = draw(runs, fitted, folder)
    print_fit(fitted, [folder / FILE, *drawn])
    return fitted


def analyse(runs: Runs, ahead: Sequence[float], bootstraps: int, seed: int) -> dict[str, Any]:
    """Every law of ``runs`` and the forecast at the budgets ``ahead``, as plain values."""
    fitted = analysis.laws_of(runs)
    fitted |= forecasts.forecast_of(runs, np.asarray(ahead, float), fitted["flags"])
    if bootstraps:
        from agent_scaling.scaling.bootstrap import bootstrap_intervals

        fitted["bootstrap"] = bootstrap_intervals(runs, bootstraps, seed)
    fitted["flags"] = [*runs.flags, *fitted["flags"]]
    return fitted


def read(
    source: str,
    path: str | Sequence[str] | None,
    study: str | None,
    tracking_uri: str,
    game: str | None,
    budgets: Sequence[float] | None,
) -> Runs:
    """The table that ``fit`` works on; raises :class:`InputError` as it does."""
    if budgets is not None and (len(budgets) != 2 or not 0 < budgets[0] < budgets[1]):
        raise InputError(f"budgets={list(budgets)}: give [lowest,highest] in FLOPs")
    if source == "csv":
        if not path:
            raise InputError("path=null: source=csv needs path=FILE")
        return tidy(read_csv(path, game), f"path={path}", budgets)
    if source == "mlflow":
        if not study:
            raise InputError("study=null: source=mlflow needs study=NAME")
        from agent_scaling.scaling.tracked import read_mlflow  # mlflow takes seconds to import

        table, flags = read_mlflow(study, tracking_uri)
        runs = tidy(table, f"study={study}", budgets)
        runs.flags[:0] = flags
        return runs
    raise InputError(f"source={source}: use csv or mlflow")


def _ahead(forecast: Sequence[float] | float | None, runs: Runs) -> list[float]:
    if forecast is None:
        return [10 * float(runs.cells["flops"].max())]
    values = [forecast] if isinstance(forecast, int | float) else list(forecast)
    if not all(value > 0 for value in values):
        raise InputError(f"forecast={values}: budgets are FLOPs above 0")
    return [float(value) for value in values]


def plain(value: Any) -> Any:
    """Numpy values as Python's, what is not finite as ``None``: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("records"))
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def write_json(path: Path, value: Any) -> None:
    """Write beside the target, then replace it.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w") as handle:
            json.dump(plain(value), handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        raise InputError(f"output={path.parent}: cannot be written ({error.strerror})") from error
