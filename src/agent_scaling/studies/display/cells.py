"""Tabulates the cells that the runs of a plan have measured so far."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from agent_scaling.envs.versions import COLUMNS as VERSIONS
from agent_scaling.studies.mlflow_parent import REMEMBERED
from agent_scaling.studies.plan_file import Plan
from agent_scaling.tracking.milestones import is_at, milestones

MEASURED = {
    "eval_loss": "val/nats",
    "eval_se": "val/nats_se",
    "return_mean": "rollout/return_mean",
    "return_se": "rollout/return_se",
    "progression_mean": "rollout/progression_mean",
    "progression_se": "rollout/progression_se",
    "cpu_seconds": "cpu_seconds",
}
"""Columns of ``cells.csv``, as ``fit source=csv`` reads them, and where milestones have them."""


def measured_cells(made: Plan, folder: Path) -> pd.DataFrame:
    """A row per cell that the runs of a plan have measured, columns as ``fit source=csv`` reads."""
    rows = []
    for run in made.runs:
        for found in milestones(run.output(folder)):
            nominal = next((b for b in run.budgets if is_at(found, b)), None)
            if nominal is None:
                continue
            remembered = found["folder"] / REMEMBERED
            run_id = remembered.read_text().strip() if remembered.exists() else None
            row = {"study": run.study, "variant": run.variant, "run": run.name, "seed": run.seed}
            row |= {"flops": nominal, "params": run.params, "samples": found["frames"]}
            row |= {"mlflow_run_id": run_id, "unique": run.epoch_frames or None}
            row |= {name: found.get(name) for name in VERSIONS}
            rows.append(row | {name: found.get(key) for name, key in MEASURED.items()})
    cells = pd.DataFrame(rows)
    numbers = dict.fromkeys((*MEASURED, "unique"), float)
    return cells.astype(numbers) if rows else cells  # none is not a number
