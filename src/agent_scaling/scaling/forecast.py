"""The verb ``forecast``: predicts the best run at a budget, or the budget that reaches a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from agent_scaling.runtime.errors import InputError, reading
from agent_scaling.runtime.files import write_json
from agent_scaling.runtime.terminal import plain_console
from agent_scaling.scaling.comparison import compare, zero_of_row
from agent_scaling.scaling.fit import analyse, read
from agent_scaling.scaling.reach import reach
from agent_scaling.scaling.runs.fit_file import agreed_store, read_fit_of_runs
from agent_scaling.scaling.runs.mlflow_runs import measured_at, read_mlflow
from agent_scaling.scaling.runs.plain_json import plain
from agent_scaling.scaling.runs.table import Runs
from agent_scaling.tracking.store import default_store

Reached = TypedDict("Reached", {"loss": float | None, "return": float | None}, total=False)
"""A loss, or a return, whose budget is asked for."""


def forecast(
    *,
    fit: str | None = None,
    budget: float | None = None,
    within: float | None = None,
    measured: Mapping[str, float | None] | None = None,
    source: str | None = None,
    path: str | Sequence[str] | None = None,
    game: str | None = None,
    where: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    budgets: Sequence[float] | None = None,
    expert_return: float | None = None,
    lowest_return: float | None = None,
    highest_return: float | None = None,
    study: str | None = None,
    experiment: str | None = None,
    run: str | None = None,
    tracking_uri: str | None = None,
    output: str | None = None,
    show: bool = True,
    **reached: Unpack[Reached],
) -> dict[str, Any]:
    """Predict the best run at ``budget``, or the budget that reaches ``loss=`` or ``return=``.

    The runs of the fit are read again, within the fit's budgets. Runs at later, higher budgets
    therefore do not change the forecast. With ``source``, runs are read as ``fit`` reads them.

    Args:
        fit: A ``fit.json``, or the folder that holds it.
        budget: Training FLOPs.
        within: Highest budget at which a loss or a return is looked for, FLOPs; ``None``: 1,000
            times the highest measured one.
        measured: ``loss`` and ``return`` of the run made at that budget; ``None``: not measured.
        source: In place of ``fit``, ``csv`` or ``mlflow``.
        path: With ``source=csv``, one CSV, or several that complete each other.
        game: The game, where a CSV holds several.
        where: Values of columns that a CSV's rows must have.
        columns: A CSV's own names of columns.
        budgets: With ``source``, lowest and highest budget used, FLOPs; ``None``: all.
        expert_return: With ``source``, return at which the ``expert`` form saturates.
        lowest_return: With ``source``, return that laws count from.
        highest_return: With ``source``, highest return that the game's rules allow.
        study: With ``source=mlflow``, the tag ``study`` of the runs; else the tag of runs in
            MLflow, among which metrics absent from ``measured`` are looked up.
        experiment: Experiment of those runs.
        run: Id of the one run in which they are looked up.
        tracking_uri: The MLflow store; ``None``: that of ``MLFLOW_TRACKING_URI``, or
            ``mlflow.db`` in the working directory, which must be the fit's.
        output: Folder for ``forecast.json``; ``None``: nothing is written.
        show: Print it.
        reached: ``loss`` or ``return`` whose budget is asked for.

    Returns:
        The row of ``fit.json``'s ``forecast``, with a ``comparison`` of each measured metric; or
        the result of :func:`~agent_scaling.scaling.reach.reach`.

    Raises:
        InputError: There is no such fit or table, not exactly one of budget, loss and return is
            given, a value is not above 0, MLflow has no run at that budget, or the fit's runs are
            in a store that is not the user's.
    """
    if (fit is None) == (source is None):
        raise InputError("give fit=FOLDER, or source= with path= or study=, and not both")
    own: dict[str, object] = {
        "path": path,
        "game": game,
        "where": where,
        "columns": columns,
        "budgets": budgets,
    }
    own |= {"lowest_return": lowest_return, "highest_return": highest_return}
    if fit is not None and (odd := [key for key, value in own.items() if value is not None]):
        raise InputError(f"{odd[0]}=: goes with source=; fit={fit} has its own")
    given: dict[str, Any] = {"budget": budget, **reached}
    asked = {key: value for key, value in given.items() if value is not None}
    if len(asked) != 1:
        raise InputError("give one of budget=FLOPs, loss=L and return=R")
    origin: dict[str, Any] = {"source": source, "path": path, "study": study, "game": game}
    origin |= {"columns": columns, "experiment": experiment, "where": where}
    origin |= {"tracking_uri": tracking_uri or default_store()}
    origin |= {"lowest_return": lowest_return, "highest_return": highest_return}
    fitted: dict[str, Any] = {"origin": origin, "budgets": budgets, "forecast": []}
    with reading(fit or path or f"source={source}", "check its table"):
        fitted = fitted if fit is None else read_fit_of_runs(fit)
        if budget is None:
            ((target, value),) = asked.items()
            runs = runs_of(fitted, tracking_uri)
            expert = _expert(fitted, runs, expert_return)
            row = reach(runs, target, float(value), expert, within)
        else:
            row = _predict(fitted, budget, expert_return, tracking_uri)
    if budget is not None:
        known = {name: value for name, value in (measured or {}).items() if value is not None}
        if fit is not None and (study or experiment or run):
            uri = agreed_store(fitted, tracking_uri)
            table = read_mlflow(study, experiment, uri, run).table
            found = measured_at(table, budget)
            known = {name: value for name, value in found.items() if name in row} | known
        if known:
            row["comparison"] = compare(row, known)
    if show and budget is None:
        _print_reached(row)
    elif show:
        _print(row)
    if output is not None:
        write_json(Path(output) / "forecast.json", plain(row))
    return row


def runs_of(fitted: dict[str, Any], tracking_uri: str | None = None) -> Runs:
    """Read the runs that a fit was made of, within its budgets.

    Raises:
        InputError: They are in another store than the user's, ``tracking_uri`` or by default that
            of the environment.
    """
    origin = dict(fitted["origin"])
    origin["tracking_uri"] = (
        agreed_store(fitted, tracking_uri) if origin["source"] == "mlflow" else ""
    )
    return read(budgets=fitted["budgets"], **origin)


def _predict(
    fitted: dict[str, Any], budget: float, expert: float | None, tracking_uri: str | None
) -> dict[str, Any]:
    if not budget > 0:
        raise InputError(f"budget={budget}: give FLOPs above 0")
    for row in fitted["forecast"]:
        if math.isclose(row["flops"], budget, rel_tol=1e-9):
            return {name: _unbounded(value) for name, value in row.items()}
    runs = runs_of(fitted, tracking_uri)
    expert = _expert(fitted, runs, expert)
    chosen = analyse(runs, [budget], bootstraps=0, seed=0, expert=expert)
    return dict(chosen["forecast"][0])


def _expert(fitted: Mapping[str, Any], runs: Runs, given: float | None) -> float | None:
    """Return the expert's return of a fit that has one; else that which is given, or the runs'."""
    own = fitted.get("expert_return")
    return runs.expert(given if own is None else own)


def _unbounded(value: object) -> object:
    """Turn an interval's absent ends, ``None`` in JSON, back into 0 and infinity."""
    if not isinstance(value, tuple):
        return value
    ends = zip(value, (0.0, math.inf), strict=True)
    return [absent if end is None else end for end, absent in ends]


def _print(row: dict[str, Any]) -> None:
    console = plain_console(soft_wrap=True)
    console.print(f"best run at {row['flops']:.3g} FLOPs, 90 % intervals:")
    for name in ("params", "frames", "loss", "return"):
        if name in row:
            low, high = row[f"{name}_interval"]
            console.print(f"  {name:7} {row[name]:.4g}  ({low:.4g} to {high:.4g})")
    for name, found in row.get("comparison", {}).items():
        place = "within" if found["within"] else "OUTSIDE"
        zero = zero_of_row(row, name)
        error = f"{math.expm1(found['log_error']):+.1%}" + (f" (above {zero:.4g})" if zero else "")
        console.print(f"  {name} measured {found['measured']:.4g}: {place}, forecast {error} off")


def _print_reached(row: Mapping[str, Any]) -> None:
    console = plain_console(soft_wrap=True)
    asked = f"{row['target']} {row['value']:.4g}"
    if row["measured"]:
        console.print(f"{asked}: reached at {row['flops']:.3g} FLOPs by a measured run")
        for name in ("params", "frames"):
            console.print(f"  {name:7} {row[name]:.4g}")
        return
    if row["flops"] is None:
        console.print(f"{asked}: not within {row['within']:.3g} FLOPs")
        if row["flops_interval"]:
            console.print(f"  at best {row['flops_interval'][0]:.3g} FLOPs (lower end, 90 %)")
        return
    console.print(f"{asked} is reached at, with 90 % intervals:")
    for name in ("flops", "params", "frames"):
        if name in row:
            low, high = row[f"{name}_interval"]
            none = f"not within {row['within']:.3g}" if name == "flops" else "no upper end"
            end = none if math.isinf(high) else f"{high:.4g}"
            console.print(f"  {name:7} {row[name]:.4g}  ({low:.4g} to {end})")
