"""The verb ``fit``: fits laws, intervals and a forecast to a table of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from agent_scaling.runtime.errors import InputError, reading
from agent_scaling.runtime.files import write_json
from agent_scaling.runtime.secrets import mask, masked
from agent_scaling.runtime.terminal import say
from agent_scaling.scaling.comparison import compare
from agent_scaling.scaling.fitting import analysis, diagnostics
from agent_scaling.scaling.fitting.hyper import hyper
from agent_scaling.scaling.fitting.interactions import against_frames
from agent_scaling.scaling.fitting.intrinsic import intrinsic
from agent_scaling.scaling.fitting.lowest import forecast_above, widen_laws
from agent_scaling.scaling.fitting.outliers import outliers
from agent_scaling.scaling.fitting.repeated import repeated
from agent_scaling.scaling.fitting.structure import layout
from agent_scaling.scaling.report.terminal import print_fit, print_verdict
from agent_scaling.scaling.report.verdict import markdown, verdict
from agent_scaling.scaling.runs.budgets import MERGE_WITHIN
from agent_scaling.scaling.runs.fit_file import FILE
from agent_scaling.scaling.runs.lowest import as_fitted, moved
from agent_scaling.scaling.runs.measure import RETURN, mixed_versions, take_measure
from agent_scaling.scaling.runs.mlflow_runs import read_mlflow
from agent_scaling.scaling.runs.plain_json import plain
from agent_scaling.scaling.runs.table import Runs, read_csv, tidy
from agent_scaling.tracking.store import default_store, store_errors

if TYPE_CHECKING:
    from agent_scaling.scaling.report.replays import Replay
    from agent_scaling.scaling.runs.settings import Settings

Show = Literal["all", "verdict", "nothing"]


def fit(
    *,
    source: str,
    path: str | Sequence[str] | None = None,
    study: str | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    game: str | None = None,
    where: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    measure: str = RETURN,
    budgets: Sequence[float] | None = None,
    merge_within: float = MERGE_WITHIN,
    forecast: Sequence[float] | float | None = None,
    measured: Mapping[str, float | None] | None = None,
    expert_return: float | None = None,
    lowest_return: float | None = None,
    highest_return: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    figures: bool = True,
    log: bool | None = None,
    made_by: str | None = None,
    cautions: Sequence[str] = (),
    show: Show = "all",
    output: str,
) -> dict[str, Any]:
    """Fit the scaling laws and write ``fit.json``, figures and ``report.html`` to ``output``.

    Args:
        source: ``csv`` or ``mlflow``.
        path: With ``source=csv``, one CSV, or several that complete each other.
        study: The tag ``study`` of the runs; with a CSV, the name that the fit is logged under.
        experiment: The MLflow experiment of the runs, beside or in place of ``study``; with a
            CSV, the experiment that the fit is logged to.
        tracking_uri: The MLflow store that is read and logged to; ``None``: that of
            ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working directory.
        game: The game to fit, where the table holds several.
        where: With ``source=csv``, values of columns that rows must have, such as
            ``{dataset: c4}``; a value of None takes any.
        columns: With ``source=csv``, the table's own names of columns, such as
            ``{params: n_parameters}``.
        measure: Measure of episodes that is fitted as the return: ``return``, or another whose mean
            the table has, such as ``progression``.
        budgets: Lowest and highest budget used, FLOPs; ``None``: all.
        merge_within: Largest spread, as a fraction, of a cluster of FLOPs that is merged into one
            budget; 0: none are merged.
        forecast: Budgets to predict, FLOPs; ``None``: ten times the highest.
        measured: Measured ``loss`` and ``return`` at the first budget of ``forecast``, to compare.
        expert_return: Return at which the ``expert`` form saturates; ``None``: the recorded games'
            own mean return, where the runs hold it.
        lowest_return: Return that laws count from; ``None``: 0, or an estimate where returns lie
            below 0.
        highest_return: Highest return that the game's rules allow, which no forecast passes;
            ``None``: not known.
        bootstraps: Resamples for the bootstrap intervals; 0: none.
        seed: Seed of the resampling.
        figures: True to draw the figures and write the report.
        log: True to log the fit and its files to an MLflow run; ``None``: only with
            ``source=mlflow`` or a given ``tracking_uri``.
        made_by: The command that trained the runs, for the report.
        cautions: Sentences about the runs' grid, for what the verdict says is not known.
        show: Print ``all``, the ``verdict`` alone, or ``nothing``.
        output: Folder of the written files.

    Returns:
        The content of ``fit.json``.

    Raises:
        InputError: The source, path, game or range is unusable, there are too few budgets, or a
            return lies above ``highest_return``.
    """
    for key, value in {"bootstraps": bootstraps, "seed": seed}.items():
        if value < 0:
            raise InputError(f"{key}={value}: must be at least 0")
    uri = tracking_uri or default_store()
    origin: dict[str, Any] = {"source": source, "path": path, "study": study, "game": game}
    origin |= {"experiment": experiment, "tracking_uri": uri, "merge_within": merge_within}
    origin |= {"where": dict(where)} if where else {}
    origin |= {"columns": dict(columns)} if columns else {}
    origin |= {"measure": measure} if measure != RETURN else {}
    bounds = {"lowest_return": lowest_return, "highest_return": highest_return}
    origin |= {name: value for name, value in bounds.items() if value is not None}
    with reading(path or f"source={source}", "check its columns"):
        runs = read(budgets=budgets, **origin)
        expert = runs.expert(expert_return)
        fitted = analyse(runs, _ahead(forecast, runs), bootstraps, seed, expert)
    fitted = {"origin": masked(origin), "made_by": masked(made_by)} | fitted
    if known := {name: value for name, value in (measured or {}).items() if value is not None}:
        fitted["forecast"][0]["comparison"] = compare(fitted["forecast"][0], known)
    fitted["verdict"] = verdict(fitted, cautions)
    folder = Path(output)
    files = [folder / FILE]
    write_json(files[0], plain(fitted))
    if figures:
        from agent_scaling.scaling.report.figures import draw  # matplotlib takes a second to import
        from agent_scaling.scaling.report.page import write_report

        replays, settings = _of_the_runs(runs, uri, source)
        drawn = draw(runs, fitted, folder)
        files += [*drawn, write_report(runs, fitted, folder, replays, settings)]
    logged = None
    if log or (log is None and (source == "mlflow" or tracking_uri is not None)):
        from agent_scaling.scaling.runs.fit_run import log_fit

        options: dict[str, Any] = {"budgets": budgets, "bootstraps": bootstraps, "seed": seed}
        options |= {"expert_return": expert, "lowest_return": runs.zero, "chosen": fitted["chosen"]}
        options |= {} if highest_return is None else {"highest_return": highest_return}
        drawn = [p.with_suffix(".svg") for p in files if p.suffix == ".png"]
        with store_errors(uri):
            said = markdown(fitted["verdict"])
            run_id = log_fit(fitted, [*files, *drawn], uri, options, runs.experiments, said)
        logged = f"MLflow run {run_id} in {mask(uri)}"
    if show == "verdict":
        print_verdict(fitted["verdict"])
    elif show == "all":
        print_fit(fitted, files, logged)
    return fitted


def _of_the_runs(runs: Runs, uri: str, source: str) -> tuple[list[Replay], Settings | None]:
    """Return the runs' replays and parameters from their store, as far as they have one.

    A CSV may hold ids of runs whose store is elsewhere: a line says that they are left out.

    Raises:
        InputError: The store of a fit from MLflow cannot be read.
    """
    if not runs.stored():
        return [], None
    from agent_scaling.scaling.report.replays import replays_of
    from agent_scaling.scaling.runs.settings import settings_of

    try:
        with store_errors(uri):
            return replays_of(runs, uri), settings_of(runs, uri)
    except InputError as error:
        if source == "mlflow":
            raise
        say(f"the report leaves out the runs' replays and parameters: {error}")
        return [], None


def analyse(
    runs: Runs, ahead: Sequence[float], bootstraps: int, seed: int, expert: float | None = None
) -> dict[str, Any]:
    """Fit every law to ``runs`` and forecast the budgets ``ahead``, in the shape of ``fit.json``.

    Laws are of what returns lie above ``runs.zero``; points and forecasts hold returns themselves.

    Raises:
        InputError: Neither a positive loss nor a return above ``runs.zero`` is known at three
            budgets.
    """
    given, runs = runs, runs.counted()
    budgets = {target: runs.target(target)["flops"].nunique() for target in ("loss", "return")}
    if max(budgets.values()) < analysis.FEWEST:
        raise InputError(
            f"{budgets['loss']} budgets have a loss above 0, {budgets['return']} a return above "
            f"{given.zero:g}: laws need {analysis.FEWEST} or more of one of them"
        )
    fitted = analysis.laws_of(runs)
    fitted["return_against_frames"] = None if budgets["loss"] else against_frames(runs.cells)
    fitted["intrinsic"] = None if budgets["loss"] else intrinsic(runs.cells)
    fitted["repeated"] = repeated(given.every)
    fitted["hyper"] = hyper(given.every, fitted["flags"])
    fitted["cpu_seconds_per_flop"] = given.cpu_rate()
    widen_laws(fitted, given)
    fitted |= forecast_above(given, np.asarray(ahead, float), fitted["flags"], expert)
    fitted["diagnostics"] = diagnostics.diagnostics(runs, fitted)
    if bootstraps:
        from agent_scaling.scaling.fitting import bootstrap

        laid_out = any(layout(runs.cells, target) for target in fitted["best_of_grid"])
        fitted["bootstrap"] = (
            {"resamples": bootstraps}
            if laid_out  # resamples of a layout say nothing of optima
            else bootstrap.bootstrap_intervals(runs, bootstraps, seed)
        )
        few = min(bootstraps, bootstrap.PARAMETRIC)  # each costs hundreds of default fits
        fitted["bootstrap"]["parametric"] = bootstrap.bootstrap_parametric(runs, few, seed)
        fitted["flags"] += bootstrap.flags(fitted["bootstrap"])
    fitted["flags"] = [*runs.flags, *outliers(runs.cells, "loss"), *fitted["flags"]]
    fitted |= {
        "cells": given.cells,
        "expert_return": expert,
        "lowest_return": as_fitted(given.lowest),
        "highest_return": given.highest,
    }
    return moved(fitted, given.zero, given.highest)


def read(
    source: str,
    path: str | Sequence[str] | None,
    study: str | None,
    tracking_uri: str,
    game: str | None,
    budgets: Sequence[float] | None,
    experiment: str | None = None,
    merge_within: float = MERGE_WITHIN,
    where: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    measure: str = RETURN,
    lowest_return: float | None = None,
    highest_return: float | None = None,
) -> Runs:
    """Read the table of runs that ``fit`` works on; raises :class:`InputError` as ``fit`` does."""
    if budgets is not None and (len(budgets) != 2 or not 0 < budgets[0] < budgets[1]):
        raise InputError(f"budgets={list(budgets)}: give [lowest,highest] in FLOPs")
    kept = budgets, merge_within, lowest_return, highest_return
    if source == "csv":
        if not path:
            raise InputError("path=null: source=csv needs path=FILE")
        table = take_measure(read_csv(path, game, where, columns), measure, f"path={path}")
        runs = tidy(table, f"path={path}", *kept)
        runs.flags[:0] = mixed_versions(table)
        return runs
    if source == "mlflow":
        if not study and not experiment:
            raise InputError("study=null: source=mlflow needs study=NAME or experiment=NAME")
        tracked = read_mlflow(study, experiment, tracking_uri)
        table = take_measure(tracked.table, measure, tracked.origin)
        runs = tidy(table, tracked.origin, *kept)
        runs.flags[:0] = [*tracked.flags, *mixed_versions(table)]
        runs.experiments = tracked.experiments
        return runs
    raise InputError(f"source={source}: use csv or mlflow")


def _ahead(forecast: Sequence[float] | float | None, runs: Runs) -> list[float]:
    if forecast is None:
        return [10 * float(runs.cells["flops"].max())]
    values = [forecast] if isinstance(forecast, int | float) else list(forecast)
    if not values or not all(isinstance(v, int | float) and 0 < v < math.inf for v in values):
        raise InputError(f"forecast={values}: budgets are FLOPs above 0, one or more")
    return [float(value) for value in values]
