"""Small plans for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_scaling.studies.plan import plan
from agent_scaling.studies.plan_file import Plan

BUDGETS = [1e9, 4e9]
SIZES = [5e3, 2e4]


def train_settings(shards: Path, root: Path) -> dict[str, Any]:
    """Settings of runs that are over in seconds, recorded beside ``root``."""
    return {
        "experiment": "nethack_bc_paper",
        "data": {"shards": str(shards), "lanes": 2, "val_lanes": 4, "val_frames": 64},
        "callbacks": {"rollouts": None, "progress": None, "model": None},
        "logger": {
            "tracking_uri": f"sqlite:///{root}/mlflow.db",
            "artifact_location": str(root / "artifacts"),
        },
    }


def make_plan(shards: Path, output: Path, **more: Any) -> Plan:
    """A plan of two sizes and two budgets into ``output``; ``more`` wins."""
    train = train_settings(shards, output.parent) | more.pop("train", {})
    settings = {"name": "tiny", "budgets": BUDGETS, "sizes": SIZES, "train": train}
    return plan(**{**settings, **more}, output=str(output))
