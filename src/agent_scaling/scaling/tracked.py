"""The runs of a study in MLflow: the tables of milestones that they keep as artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from agent_scaling.errors import InputError

ARTIFACT = "milestones.json"
KIND = "kind"
MOST_RUNS = 10_000


def read_mlflow(study: str, tracking_uri: str) -> tuple[pd.DataFrame, list[str]]:
    """A row per milestone of each run tagged ``study``, and what was missing.

    The budget of a row is the milestone, not the FLOPs that were spent when its step ended.

    Raises:
        InputError: No such store, no run with the tag, or no milestone in any.
    """
    from mlflow import MlflowClient  # takes seconds to import

    folder = tracking_uri.removeprefix("sqlite:///")
    if folder != tracking_uri and not Path(folder).exists():
        raise InputError(f"tracking_uri={tracking_uri}: no such file; give the runs' store")
    client = MlflowClient(tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    where = "tags.study = '{}'".format(study.replace("'", "\\'"))
    tagged = client.search_runs(experiments, where, max_results=MOST_RUNS)
    # What stands for the whole study, and not for a policy, says its kind.
    runs = [run for run in tagged if KIND not in run.data.tags]
    if not runs:
        raise InputError(f"study={study}: no run has this tag in {tracking_uri}")
    rows: list[dict[str, Any]] = []
    flags: list[str] = []
    for run in runs:
        found = _milestones(client, run)
        rows += found
        if not found:
            name = run.info.run_name or run.info.run_id
            flags.append(f"failed run: {name} is {run.info.status} and reached no milestone")
    if not rows:
        raise InputError(f"study={study}: none of its {len(runs)} runs has reached a milestone")
    return pd.DataFrame(rows), flags


def _milestones(client: Any, run: Any) -> list[dict[str, Any]]:
    run_id = run.info.run_id
    if ARTIFACT not in {file.path for file in client.list_artifacts(run_id)}:
        return []
    rows = json.loads(Path(client.download_artifacts(run_id, ARTIFACT)).read_text())
    # A killed or stopped run's milestones are as good as any: only a failure is worth a flag.
    status = "FINISHED" if run.info.status in ("RUNNING", "KILLED") else run.info.status
    shared = {"run": run_id, "status": status, "params": run.data.params.get("policy.num_params")}
    return [row | shared | {"flops": row["milestone"]} for row in rows]
