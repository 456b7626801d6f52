"""The ``study`` verb: plan, sweep, fit, forecast, train the forecast run, and compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose
from omegaconf import OmegaConf

from agent_scaling.config.call import call_verb
from agent_scaling.config.check import checked, hints_of
from agent_scaling.config.command import command, typed_words
from agent_scaling.config.compose import hydra
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.terminal import say
from agent_scaling.scaling.comparison import zero_of_row
from agent_scaling.scaling.fitting.select import FEWEST as TO_FORECAST
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.report.terminal import print_laws, print_verdict
from agent_scaling.scaling.report.verdict import markdown
from agent_scaling.scaling.runs.fit_file import FILE, Positive
from agent_scaling.studies.display.cells import measured_cells
from agent_scaling.studies.display.variants import compare_variants
from agent_scaling.studies.experiments import compose_train
from agent_scaling.studies.grid import sizes_of, values_of
from agent_scaling.studies.mlflow_parent import describe, log_results
from agent_scaling.studies.plan import plan
from agent_scaling.studies.plan_file import Plan
from agent_scaling.studies.sweep import sweep_all

VARIED = ("unique", "lr", "batch")
"""Columns of ``cells.csv`` of which variants may have laws: frames of distinct games, learning
rate, and frames per step."""
LAWFUL = ("data.fraction", "optimizer.lr", "data.lanes")
"""Settings of variants that laws are of; variants that differ in others have no law in common."""
SETTINGS = ("optimizer.lr", "data.lanes", "data.unroll_length")
"""Keys of ``train`` that rate and batch are read from."""
CELLS = "cells.csv"
LOGGED = (".csv", ".html", ".json", ".png")
"""Endings of a fit's files that the study's own MLflow run holds, too."""
MOST = 5
"""Sentences of one kind that the end of a study prints; the report has them all."""
FEWEST = 3
"""Budgets, and sizes, that a fit needs."""


def study(
    *,
    output: str,
    budget: Positive | None = None,
    fit: None = None,
    expert_return: float | None = None,
    lowest_return: float | None = None,
    highest_return: float | None = None,
    **grid: Any,
) -> None:
    """Make a study from one config; a repeated call continues it.

    ``output`` then holds ``grid`` and ``forecast`` (plans with their runs), ``fit`` (what was
    measured, laws, figures and report; a folder per variant) and ``check`` (the forecast beside
    what was measured, which the report then holds, too).

    Args:
        output: Folder.
        budget: FLOPs to forecast and to train; ``None``: the study ends with its fits.
        fit: For ``plan`` alone; a study makes its own.
        expert_return: Of the fits: the return at which a form may saturate.
        lowest_return: Of the fits: the return that laws count from; ``None``: 0, or an estimate
            where returns lie below 0.
        highest_return: Of the fits: the highest return that the game's rules allow.
        grid: The other arguments of :func:`~agent_scaling.studies.plan.plan`.

    Raises:
        InputError: As ``plan`` and ``fit`` do; a forecast of several variants at once.
        SystemExit: As ``sweep`` does.
    """
    hints = hints_of(plan)
    for key, value in grid.items():
        checked(key, value, hints.get(key, Any))
    if fit is not None:
        raise InputError(f"fit={fit}: a study makes its own fit; plan takes one")
    if budget is not None and grid.get("variants"):
        raise InputError(f"budget={budget:g}: with variants there is no one forecast; leave it out")
    if budget is not None:
        check_grid(grid)
    folder = Path(output).resolve()
    bounds: dict[str, Any] = {"expert_return": expert_return, "lowest_return": lowest_return}
    bounds |= {"highest_return": highest_return}
    made = plan(**grid, **bounds, output=str(folder / "grid"), brief=True)
    ahead = budget or 10 * max(b for run in made.runs for b in run.budgets)
    sweep_all(made, folder / "grid", ahead)
    cells = with_settings(made, measured_cells(made, folder / "grid"))
    # With a forecast, the fit is logged and told once that has been checked.
    settings: dict[str, Any] = {"forecast": [ahead], "log": budget is None, **made.returns}
    settings |= {"cautions": list(made.warnings), "show": "nothing"}
    fits = [f for tag in made.studies if (f := fit_once(made, cells, tag, folder, settings))]
    if made.variants:
        compare_variants(made, cells, folder)
        fit_across(made, cells, folder)
    if budget is not None:
        if not fits:
            raise InputError(f"budget={budget:g}: a forecast needs {FEWEST} budgets and sizes")
        best = {name: grid[name] for name in ("name", "train", "convention", "seeds", "launcher")}
        best |= {"fit": str(fits[0]), "budget": budget, "speed": grid.get("speed")}
        best |= {"hyper": grid.get("hyper")}
        check(made, cells, best, folder)
    tell(made, fits, folder)


def tell(made: Plan, fits: Sequence[Path], folder: Path) -> None:
    """Print the verdict of each fit, its laws, and its report; describe the MLflow run by them."""
    told = []
    for where in fits:
        fitted = fit_of(where)
        said = fitted.get("verdict", {})  # a fit of an older version has none
        told.append(markdown(said))
        if made.variants:
            say(where.name)
        print_verdict(said, MOST)
        if not made.variants:
            print_laws(fitted)
        say(f"report      {where / 'report.html'}")
    if fits:
        describe(made, folder / "grid", "\n\n".join(told))


def check_grid(grid: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for a grid that is too small to forecast from: before training."""
    if grid.get("budgets") is None or grid.get("sizes") is None:
        return  # plan says so
    budgets = {*values_of(grid["budgets"], "budgets")}
    sizes = {*sizes_of(grid["sizes"])[1]}
    if len(budgets) < TO_FORECAST or len(sizes) < FEWEST:
        raise InputError(
            f"{len(budgets)} budgets= and {len(sizes)} sizes=: a forecast needs {TO_FORECAST} and "
            f"{FEWEST} or more; give more, or budget=null for the fits alone"
        )


def with_settings(made: Plan, cells: pd.DataFrame) -> pd.DataFrame:
    """Add each variant's learning rate and frames per step to its cells."""
    if not len(cells):
        return cells
    found = {variant: settings_of(made, variant) for variant in made.variants}
    for name in ("lr", "batch"):
        values = {variant: settings[name] for variant, settings in found.items()}
        cells = cells.assign(**{name: cells["variant"].map(values).astype(float)})
    own = {run.name: run.settings.get("optimizer.lr") for run in made.runs}
    rates = cells["run"].map(own).astype(float)
    return cells.assign(lr=rates.fillna(cells["lr"]))


def settings_of(made: Plan, variant: str) -> dict[str, float | None]:
    """Return a variant's learning rate and its frames per step, where ``train`` has them."""
    cfg = compose_train({**made.train, **made.variants[variant]}, {})
    rate, lanes, length = (OmegaConf.select(cfg, key) for key in SETTINGS)
    return {"lr": rate, "batch": lanes and length and float(lanes * length)}


def fit_once(
    made: Plan, cells: pd.DataFrame, tag: str, folder: Path, settings: Mapping[str, Any]
) -> Path | None:
    """The fit of the runs tagged ``tag``, also on the study's own MLflow run.

    ``None``: too few cells. A fit that is there stays, but for one without ``measured`` where
    ``settings`` now have it.
    """
    own = cells[cells["study"] == tag]
    variant = str(own["variant"].iloc[0])
    where = folder / "fit" / variant
    done = where / (".checked" if "measured" in settings else ".done")  # figures follow fit.json
    if done.exists():
        return where
    write_file(where / CELLS, own.to_csv(index=False))
    if own["flops"].nunique() < FEWEST or own["params"].nunique() < FEWEST:
        say(f"no fit of {tag}: it needs {FEWEST} budgets and {FEWEST} sizes")
        return None
    words = typed_words()
    made_by = None if words is None else command(*words)
    # From these files, not by the tag: a study made again has the tag of the one before.
    own_settings = {
        "path": str(where / CELLS),
        "tracking_uri": made.store.tracking_uri,
        "named.study": tag,
        "named.experiment": made.store.experiment_name,
        "made_by": made_by,
        "output": str(where),
    }
    call("fit", [], {**own_settings, **settings})
    files = sorted(path for path in where.iterdir() if path.suffix in LOGGED)
    log_results(made, folder / "grid", {}, files, variant or None)
    done.touch()
    return where


def fit_across(made: Plan, cells: pd.DataFrame, folder: Path) -> None:
    """Fit the cells of all variants together, where they differ in games, rates or batches alone.

    ``folder/fit/across`` holds the laws of what they differ in.
    """
    if {key for settings in made.variants.values() for key in settings} - {*LAWFUL}:
        return
    varied = [name for name in VARIED if cells[name].nunique() > 1]
    where = folder / "fit" / "across"
    if not varied or cells["flops"].nunique() < FEWEST or (where / ".done").exists():
        return
    write_file(where / CELLS, cells.drop(columns=["study", "variant"]).to_csv(index=False))
    say(f"laws of {', '.join(varied)}, over all variants:")
    settings: dict[str, Any] = {"path": str(where / CELLS), "output": str(where), "bootstraps": 0}
    settings |= made.returns
    call("fit", [], {**settings, "figures": False, "log": False})
    (where / ".done").touch()


def fit_of(folder: Path) -> dict[str, Any]:
    """Read the ``fit.json`` of a folder."""
    found: dict[str, Any] = json.loads((folder / FILE).read_text())
    return found


def call(verb: str, overrides: Sequence[str], settings: Mapping[str, Any]) -> Any:
    """Another verb, with its own defaults."""
    with hydra():
        cfg = compose(verb, list(overrides))
    for key, value in settings.items():
        OmegaConf.update(cfg, key, value)
    return call_verb(cfg)


def check(made: Plan, cells: pd.DataFrame, best: Mapping[str, Any], folder: Path) -> None:
    """Train what the fit of ``cells`` forecast; print, keep and draw it beside what was measured.

    The fit is made again, with that comparison: its laws are the same.
    """
    planned = plan(**best, output=str(folder / "forecast"), brief=True)
    sweep_all(planned, folder / "forecast", None)
    trained = measured_cells(planned, folder / "forecast")
    found = {"loss": trained["eval_loss"].mean(), "return": trained["return_mean"].mean()}
    row = dict(planned.forecast)
    above = {name: v > zero_of_row(row, name) for name, v in found.items()}
    known = {name: float(v) for name, v in found.items() if above[name] and name in row}
    again: dict[str, Any] = {"measured": known, "log": True, "show": "nothing"}
    again |= made.returns
    again |= {"forecast": [best["budget"], 10 * best["budget"]], "cautions": list(made.warnings)}
    fit_once(made, cells, made.name, folder, again)
    row = forecast(
        fit=best["fit"],
        budget=best["budget"],
        measured=known,
        output=str(folder / "check"),
        show=False,
    )
    metrics = {f"measured/{name}": value for name, value in known.items()}
    for name in ("params", "frames", "loss", "return"):
        if name in row:
            low, high = row[f"{name}_interval"]
            metrics |= {f"forecast/{name}": row[name]}
            metrics |= {f"forecast/{name}_low": low, f"forecast/{name}_high": high}
    for name, compared in row.get("comparison", {}).items():
        metrics[f"forecast/{name}_log_error"] = compared["log_error"]
    log_results(made, folder / "grid", metrics, [folder / "check" / "forecast.json"])
