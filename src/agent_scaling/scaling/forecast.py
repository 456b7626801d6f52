"""``agent-scaling forecast``: what a fit predicts at a budget, and how far off it was."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from agent_scaling.errors import InputError
from agent_scaling.scaling.fit import FILE, analyse, read, write_json


def forecast(
    *,
    fit: str,
    budget: float,
    measured: Mapping[str, float | None] | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """Predict the best run at ``budget`` from a fit; compare it with what was ``measured``.

    The runs that the fit was made of are read again, within the fit's budgets: nothing that was
    measured since changes the forecast.

    Args:
        fit: A ``fit.json``, or the folder that holds it.
        budget: Training FLOPs.
        measured: ``loss`` and ``return`` of the run since made; ``None``: not measured.
        output: Folder for ``forecast.json``; ``None``: nothing is written.

    Returns:
        The row of ``fit.json``'s ``forecast``; with ``measured``, a ``comparison`` of each.

    Raises:
        InputError: No fit there, or a budget or measurement that is not above 0.
    """
    if not budget > 0:
        raise InputError(f"budget={budget}: give FLOPs above 0")
    row: dict[str, Any] = _predict(_load(fit), budget)
    known = {name: value for name, value in (measured or {}).items() if value is not None}
    if known:
        row["comparison"] = compare(row, known)
    _print(row)
    if output is not None:
        write_json(Path(output) / "forecast.json", row)
    return row


def compare(row: Mapping[str, Any], measured: Mapping[str, float]) -> dict[str, Any]:
    """For each metric measured: its value, log error (predicted − measured), within interval."""
    found: dict[str, Any] = {}
    for name, value in measured.items():
        if name not in row or not value > 0:
            known = [n for n in ("loss", "return") if n in row]
            raise InputError(f"measured.{name}={value}: give values above 0 of {known}")
        low, high = row[f"{name}_interval"]
        error = math.log(row[name] / value)
        found[name] = {"measured": value, "log_error": error, "within": bool(low <= value <= high)}
    return found


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
            return dict(row)
    runs = read(budgets=fitted["budgets"], **fitted["origin"])
    row = analyse(runs, [budget], bootstraps=0, seed=0)["forecast"][0]
    return dict(row)


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
