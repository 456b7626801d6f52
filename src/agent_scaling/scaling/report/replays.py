"""Fetches the replays that a study's best run logged, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from agent_scaling.scaling.laws.profiles import best_rows
from agent_scaling.scaling.runs.table import Runs
from agent_scaling.tracking.store import open_store, read_artifact

if TYPE_CHECKING:
    from mlflow import MlflowClient

KINDS = ("best", "median", "worst")
FOLDER = "replays"

LARGEST = 1_000_000
"""Size limit of an embedded page, in bytes, so that phones can open the report."""


@dataclass(frozen=True)
class Replay:
    """A replay of one episode as an HTML page.

    Attributes:
        kind: One of :data:`KINDS`, by return.
        run, name: The MLflow run's id and name.
        path: The page's path among the run's artifacts.
        flops, params: The run's budget in FLOPs, and its size.
        page: The HTML; ``None`` where it is larger than :data:`LARGEST`.
    """

    kind: str
    run: str
    name: str
    path: str
    flops: float
    params: float
    page: str | None


def replays_of(runs: Runs, tracking_uri: str) -> list[Replay]:
    """Fetch the replays of the best run at the highest budget, by loss where that is known.

    Empty where that run logged none, or its id in MLflow is unknown.
    """
    target = "loss" if len(runs.target("loss")) else "return"
    row = runs.rows.iloc[best_rows(runs.rows, target)[-1]]
    if pd.isna(row["mlflow_run_id"]):
        return []
    client, run_id = open_store(tracking_uri), str(row["mlflow_run_id"])
    found = []
    for path in _pages(client, run_id, row["samples"]):
        page = read_artifact(client, run_id, path)
        found.append(
            Replay(
                kind=Path(path).stem,
                run=run_id,
                name=client.get_run(run_id).info.run_name or run_id,
                path=path,
                flops=float(row["flops"]),
                params=float(row["params"]),
                page=page if len(page.encode()) <= LARGEST else None,
            )
        )
    return found


def _pages(client: MlflowClient, run_id: str, frames: float) -> list[str]:
    """List the pages of the milestone at ``frames``; folders are named after the frames trained."""
    folders = {Path(item.path).name for item in client.list_artifacts(run_id, FOLDER)}
    name = f"{frames:.0f}"
    if name not in folders:
        return []
    held = {item.path for item in client.list_artifacts(run_id, f"{FOLDER}/{name}")}
    pages = (f"{FOLDER}/{name}/{kind}.html" for kind in KINDS)
    return [page for page in pages if page in held]
