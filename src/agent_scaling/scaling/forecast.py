"""The verb ``forecast``: predicts the best run at a budget and compares it with a measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_json
from agent_scaling.scaling.comparison import compare
from agent_scaling.scaling.fit import FILE, analyse, read
from agent_scaling.scaling.runs.mlflow_runs import measured_at, read_mlflow
from agent_scaling.scaling.runs.plain_json import plain
from agent_scaling.tracking.store import default_store


def forecast(
    *,
    fit: str,
    budget: float,
    measured: Mapping[str, float | None] | None = None,
    study: str | None = None,
    experiment: str | None = None,
    run: str | None = None,
    tracking_uri: str | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """Predict the best run at ``budget`` from a fit; compare it with the ``measured`` values.

    The runs of the fit are read again, within the fit's budgets. Runs at later, higher budgets
    therefore do not change the forecast.

    Args:
        fit: A ``fit.json``, or the folder that holds it.
        budget: Training FLOPs.
        measured: ``loss`` and ``return`` of the run made at that budget; ``None``: not measured.
        study: Tag of runs in MLflow, among which metrics absent from ``measured`` are looked up.
        experiment: Experiment among whose runs they are looked up.
        run: Id of the one run in which they are looked up.
        tracking_uri: The store of the look-up; ``None``: the fit's own.
        output: Folder for ``forecast.json``; ``None``: nothing is written.

    Returns:
        The row of ``fit.json``'s ``forecast``, with a ``comparison`` of each measured metric.

    Raises:
        InputError: There is no such fit, the budget or a measurement is not above 0, or MLflow has
            no run at that budget.
    """
    if not budget > 0:
        raise InputError(f"budget={budget}: give FLOPs above 0")
    fitted = _load(fit)
    row: dict[str, Any] = _predict(fitted, budget)
    known = {name: value for name, value in (measured or {}).items() if value is not None}
    if study or experiment or run:
        uri = tracking_uri or fitted["origin"].get("tracking_uri") or default_store()
        table = read_mlflow(study, experiment, uri, run).table
        found = measured_at(table, budget)
        known = {name: value for name, value in found.items() if name in row} | known
    if known:
        row["comparison"] = compare(row, known)
    _print(row)
    if output is not None:
        write_json(Path(output) / "forecast.json", plain(row))
    return row


def _load(fit: str) -> dict[str, Any]:
    path = Path(fit)
    path = path / FILE if path.is_dir() else path
    try:
        loaded: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"fit={fit}: not a fit.json of `fit` ({error})") from error
    if "origin" not in loaded:
        raise InputError(f"fit={fit}: does not say which runs it was made of; run `fit` again")
    return loaded


def _predict(fitted: dict[str, Any], budget: float) -> dict[str, Any]:
    for row in fitted["forecast"]:
        if math.isclose(row["flops"], budget, rel_tol=1e-9):
            return {name: _unbounded(value) for name, value in row.items()}
    runs = read(budgets=fitted["budgets"], **fitted["origin"])
    chosen = analyse(runs, [budget], bootstraps=0, seed=0, expert=fitted.get("expert_return"))
    return dict(chosen["forecast"][0])


def _unbounded(value: object) -> object:
    """Turn an interval's absent upper end, ``None`` in JSON, back into infinity."""
    return [value[0], math.inf] if isinstance(value, list) and value[1] is None else value


def _print(row: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"best run at {row['flops']:.3g} FLOPs, 90 % intervals:")
    for name in ("params", "frames", "loss", "return"):
        if name in row:
            low, high = row[f"{name}_interval"]
            console.print(f"  {name:7} {row[name]:.4g}  ({low:.4g} to {high:.4g})")
    for name, found in row.get("comparison", {}).items():
        place = "within" if found["within"] else "OUTSIDE"
        error = f"{math.expm1(found['log_error']):+.1%}"
        console.print(f"  {name} measured {found['measured']:.4g}: {place}, forecast {error} off")
