"""Reads the milestones of a study's or an experiment's runs from MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pandas as pd

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.runs.choice import listing
from agent_scaling.tracking.store import (
    KIND,
    open_store,
    read_artifact,
    runs_of_study,
    store_errors,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ARTIFACT = "milestones.json"


@dataclass(frozen=True)
class Tracked:
    """The milestones of a study's runs.

    Attributes:
        table: A row per milestone.
        flags: Runs without milestones, one line each.
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
    """Read a row per milestone of the runs of a study (tag), of an experiment, or of one run.

    A row's budget is the milestone, not the FLOPs spent when its step ended. Runs of fits and
    parents of sweeps have no policy and are skipped.

    Raises:
        InputError: There is no such store, experiment or run, or no run has a milestone.
    """
    with store_errors(tracking_uri):
        return _read(open_store(tracking_uri), study, experiment, tracking_uri, run_id)


def _read(
    client: MlflowClient,
    study: str | None,
    experiment: str | None,
    tracking_uri: str,
    run_id: str | None,
) -> Tracked:
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
        _check_files(runs, origin)
        raise InputError(f"{origin}: none of its {len(runs)} runs has reached a milestone")
    experiments = pd.Series([run.info.experiment_id for run in runs]).value_counts()
    return Tracked(pd.DataFrame(rows), flags, list(experiments.index), origin)


def _runs(
    client: MlflowClient, study: str | None, experiment: str | None, tracking_uri: str
) -> list[Run]:
    if experiment:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = listing(sorted(e.name for e in client.search_experiments()))
            message = f"not in {tracking_uri}; use one of {names}"
            raise InputError(f"experiment={experiment}: {message}")
        experiments = [found.experiment_id]
    else:
        experiments = [e.experiment_id for e in client.search_experiments()]
    tagged = runs_of_study(client, experiments, study)
    parents = {run.data.tags.get("mlflow.parentRunId") for run in tagged}
    return [r for r in tagged if KIND not in r.data.tags and r.info.run_id not in parents]


def _check_files(runs: list[Run], origin: str) -> None:
    """Raise :class:`InputError` where runs' folders of artifacts are not where the store says."""
    folders = [artifacts_folder(run.info.artifact_uri) for run in runs]
    if lost := [str(folder) for folder in folders if folder is not None and not folder.is_dir()]:
        raise InputError(
            f"{origin}: the store says that {len(lost)} of its {len(runs)} runs keep their files "
            f"in folders that are not there, such as {lost[0]}: move or link the folder of "
            "artifacts there, or read the store from the machine and folder of the runs"
        )


def artifacts_folder(uri: str) -> Path | None:
    """Return the local folder that an artifact URI names; None for a remote one."""
    about = urlparse(uri)
    if about.scheme not in ("", "file"):
        return None
    return Path(unquote(about.path))


def _milestones(client: MlflowClient, run: Run) -> list[dict[str, Any]]:
    run_id = run.info.run_id
    if ARTIFACT not in {file.path for file in client.list_artifacts(run_id)}:
        return []
    rows = json.loads(read_artifact(client, run_id, ARTIFACT))
    # Milestones of killed or stopped runs are valid; only failed runs are flagged.
    status = "FINISHED" if run.info.status in ("RUNNING", "KILLED") else run.info.status
    shared = {"run": run_id, "mlflow_run_id": run_id, "status": status}
    shared["params"] = run.data.params.get("policy.num_params")
    shared["seed"] = run.data.params.get("seed")
    shared |= _settings(run.data.params)
    return [row | shared | {"flops": row["milestone"]} for row in rows]


def _settings(params: Mapping[str, str]) -> dict[str, float | None]:
    """Return the frames of the run's games, its learning rate and its frames per step."""
    names = ("data.train_frames", "optimizer.lr", "data.lanes", "data.unroll_length")
    values = pd.to_numeric(pd.Series([params.get(name) for name in names]), errors="coerce")
    unique, rate, lanes, length = values.astype(float)
    return {"unique": unique or None, "lr": rate, "batch": lanes * length}


def measured_at(table: pd.DataFrame, budget: float) -> dict[str, float]:
    """Find the lowest loss and the highest return of the milestones within 1 % of ``budget`` FLOPs.

    Raises:
        InputError: There is no such milestone.
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
