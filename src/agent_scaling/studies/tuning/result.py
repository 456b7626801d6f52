"""Results of a search: a table, the best settings as an experiment, and both in MLflow."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.box import SIMPLE
from rich.table import Table

from agent_scaling.config.command import command, config_dir, setting
from agent_scaling.runtime.files import absolute, write_file
from agent_scaling.runtime.formats import compact
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import plain_console, say
from agent_scaling.scaling.runs.fit_run import NOTE
from agent_scaling.studies import grid as grids
from agent_scaling.studies.experiments import experiment_file
from agent_scaling.studies.mlflow_parent import REMEMBERED, log_results, store_of
from agent_scaling.studies.plan_file import Plan
from agent_scaling.studies.tuning.rungs import Bench
from agent_scaling.studies.tuning.search import Search, Trial

TRIALS, BEST = "trials.csv", "best"
SHOWN = 10
"""Trials that the terminal shows; the table on disk has all."""


@dataclass(frozen=True)
class Measure:
    """A measurement of trials that a search improves.

    Attributes:
        key: Its column of ``milestones.json``.
        name: Its name and unit.
        form: Format of a value.
        maximise: True where more is better.
    """

    key: str
    name: str
    form: str
    maximise: bool


MEASURES = {
    "loss": Measure("val/nats", "held-out nats", ".4f", False),
    "return": Measure("rollout/return_mean", "mean return", ".4g", True),
}


def keep_results(
    bench: Bench, search: Search, measure: Measure, made: Plan, folder: Path, spent: float
) -> None:
    """Write ``trials.csv`` and ``experiment/best.yaml``, log both, and print the best trials."""
    ranked = search.ranked()
    table = rows_of(bench, search, ranked)
    write_file(folder / TRIALS, as_csv(table))
    if not ranked:
        say("no trial has measured anything")
        return
    best, level = ranked[0], max(ranked[0].values)
    reached, value = bench.rungs[level], best.values[level]
    path = folder / "experiment" / f"{BEST}.yaml"
    told = f"{value:{measure.form}} {measure.name} after {compact(reached)} FLOPs"
    write_file(path, mask(best_experiment(bench, best, told)))
    show(bench, search, measure, ranked)
    say(f"best      {best.name}: {told}; {said(best)}")
    first = next((trial for trial in ranked if trial.number == 0), None)
    if first is not None and first is not best and level in first.values:
        say(f"t000 had  {first.values[level]:{measure.form}} with {said(first)}")
    count = len(search.trials())
    say(f"spent     {compact(spent)} FLOPs on {count} trials; table: {folder / TRIALS}")
    say(f"train it  {again(folder)}")
    log_results(
        made, folder, {"best/value": value, "best/flops": reached, "trials": len(search.trials())},
        [folder / TRIALS, path],
    )  # fmt: skip
    note = f"Best of {len(search.trials())} trials, {best.name}: {told}; {said(best)}.\n\n"
    note += f"- train it: `{again(folder)}`"
    with store_of(made) as client:
        client.set_tag((folder / REMEMBERED).read_text(), NOTE, note)


def again(folder: Path) -> str:
    """Return a command that trains the best settings."""
    where = [setting("output", folder / BEST), "flops_budget=1e12"]
    return command("train", *config_dir(folder), setting("experiment", BEST), *where)


def said(trial: Trial) -> str:
    """Return a trial's settings as one types them."""
    told = [(key, short_value(value)) for key, value in trial.settings.items()]
    numbers = {key for key, value in trial.settings.items() if isinstance(value, int | float)}
    return " ".join(f"{key}={v}" if key in numbers else setting(key, v) for key, v in told)


def short_value(value: object) -> object:
    """Return a number with few digits."""
    return f"{value:.4g}" if isinstance(value, float) else value


def rows_of(bench: Bench, search: Search, ranked: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return a row per trial, the best first and those without a measurement last."""
    rest = [trial for trial in search.trials() if not trial.values]
    rows = []
    for trial in [*ranked, *rest]:
        measured = {compact(b): trial.values.get(k, "") for k, b in enumerate(bench.rungs)}
        rows.append({"trial": trial.name, **trial.settings, **measured, "state": trial.state})
    return rows


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as the text of a CSV."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def show(bench: Bench, search: Search, measure: Measure, ranked: Sequence[Trial]) -> None:
    """Print the best trials: their settings, and what they measured at each rung."""
    title = f"{measure.name} of the best trials, by the FLOPs that they were trained with"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    keys = [key.name for key in search.keys]
    for column in ("trial", *keys, *(compact(rung) for rung in bench.rungs), "state"):
        table.add_column(column, justify="left" if column in ("trial", "state") else "right")
    for trial in ranked[:SHOWN]:
        settings = [str(short_value(trial.settings[key])) for key in keys]
        values = [
            f"{trial.values[k]:{measure.form}}" if k in trial.values else "·"
            for k in range(len(bench.rungs))
        ]
        table.add_row(trial.name, *settings, *values, trial.state)
    plain_console().print(table)


def best_experiment(bench: Bench, best: Trial, told: str) -> str:
    """Return the YAML of the best settings, which takes a budget and an output folder."""
    request = bench.request
    (size,), cfg = request.sizes, grids.compose(request)
    planned = {**request.sized(size), "tags.study": f"{request.name}-{BEST}"}
    planned |= {f"logger.{name}": value for name, value in asdict(grids.store_of(cfg)).items()}
    for key in ("data.shards", "data.demonstrations.shards"):
        if shards := OmegaConf.select(cfg, key):
            planned[key] = absolute(shards)
    head = [f"The best trial of {request.name}, {best.name}: {told}"]
    return experiment_file({**request.train, **best.settings}, planned, head)
