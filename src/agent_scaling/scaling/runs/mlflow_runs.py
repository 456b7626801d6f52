"""The runs of a study or an experiment in MLflow: the tables of milestones that they keep."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.store import KIND, open_store

ARTIFACT = "milestones.json"
MOST_RUNS = 10_000


@dataclass(frozen=True)
class Tracked:
    """What a store holds of a study.

    Attributes:
        table: A row per milestone.
        flags: Runs without any, one line each.
        experiments: Ids of the runs' MLflow experiments, the most frequent first.
        origin: The study or experiment, as the user named it.
    """

    table: pd.DataFrame
    flags: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    origin: str = ""


def read_mlflow(
    study: str | None, experiment: str | None, tracking_uri: str, run_id: str | None = None
) -> Tracked:
    """A row per milestone of the runs of a study (tag), of an experiment, or of one run.

    The budget of a row is the milestone, not the FLOPs that were spent when its step ended. Runs
    of fits, and the parents of sweeps, hold no milestones and are not runs of a policy.

    Raises:
        InputError: No such store, experiment or run, or no milestone in any.
    """
    client = open_store(tracking_uri)
    names = {"study": study, "experiment": experiment, "run": run_id}
    origin = " ".join(f"{key}={value}" for key, value in names.items() if value)
    runs = _runs(client, study, experiment, tracking_uri)
    runs = [run for run in runs if run_id in (None, run.info.run_id)]
    if not runs:
        raise InputError(f"{origin}: no run of a policy in {tracking_uri}")
    rows: list[dict[str, Any]] = []
    flags: list[str] = []
    for run in runs:
        found = _milestones(client, run)
        rows += found
        if not found:
            name = run.info.run_name or run.info.run_id
            flags.append(f"failed run: {name} is {run.info.status} and reached no milestone")
    if not rows:
        raise InputError(f"{origin}: none of its {len(runs)} runs has reached a milestone")
    experiments = pd.Series([run.info.experiment_id for run in runs]).value_counts()
    return Tracked(pd.DataFrame(rows), flags, list(experiments.index), origin)


def _runs(client: Any, study: str | None, experiment: str | None, tracking_uri: str) -> list[Any]:
    if experiment:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(e.name for e in client.search_experiments())
            message = f"not in {tracking_uri}; use one of {names}"
            raise InputError(f"experiment={experiment}: {message}")
        experiments = [found.experiment_id]
    else:
        experiments = [e.experiment_id for e in client.search_experiments()]
    where = "tags.study = '{}'".format(study.replace("'", "\\'")) if study else ""
    tagged = client.search_runs(experiments, where, max_results=MOST_RUNS)
    parents = {run.data.tags.get("mlflow.parentRunId") for run in tagged}
    return [r for r in tagged if KIND not in r.data.tags and r.info.run_id not in parents]


def _milestones(client: Any, run: Any) -> list[dict[str, Any]]:
    run_id = run.info.run_id
    if ARTIFACT not in {file.path for file in client.list_artifacts(run_id)}:
        return []
    rows = json.loads(Path(client.download_artifacts(run_id, ARTIFACT)).read_text())
    # A killed or stopped run's milestones are as good as any: only a failure is worth a flag.
    status = "FINISHED" if run.info.status in ("RUNNING", "KILLED") else run.info.status
    shared = {"run": run_id, "mlflow_run_id": run_id, "status": status}
    shared["params"] = run.data.params.get("policy.num_params")
    shared["seed"] = run.data.params.get("seed")
    return [row | shared | {"flops": row["milestone"]} for row in rows]


def measured_at(table: pd.DataFrame, budget: float) -> dict[str, float]:
    """Lowest loss, and highest return, of the milestones within 1 % of ``budget`` FLOPs.

    Raises:
        InputError: No milestone there.
    """
    near = table[(table["flops"].astype(float) / budget).map(math.log).abs() < 0.01]
    if near.empty:
        known = ", ".join(f"{value:.3g}" for value in sorted(table["flops"].astype(float).unique()))
        raise InputError(f"budget={budget:.3g}: no run has reached it; milestones are {known}")
    found = {}
    for name, column, best in (
        ("loss", "val/nats", "min"),
        ("return", "rollout/return_mean", "max"),
    ):
        values = pd.to_numeric(near[column], errors="coerce") if column in near else pd.Series()
        if values.notna().any():
            found[name] = float(getattr(values, best)())
    return found
