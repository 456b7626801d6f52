"""Small runs of IMPALA through the command line's own path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_scaling.checkpoint import read_checkpoint
from agent_scaling.cli import call_verb
from tests.runs import composed

LANES, STEPS = 4, 10
SMALL = [
    "experiment=minihack_impala",
    "data.game=tests.envs.corridor:Corridor",
    "~data.options.task",
    f"data.lanes={LANES}",
    f"data.unroll_length={STEPS}",
    "data.workers=1",
    "data.asynchronous=false",
    "policy.encoder.width=16",
    "policy.encoder.status_width=16",
    "policy.encoder.map_width=16",
    "policy.encoder.blocks=2",
    "callbacks.rollouts=null",
    "callbacks.progress=null",
    "callbacks.checkpoints.every_frames=null",
    "flops_budget=1e18",  # out of reach: runs are cut by their steps
]


def overrides(output: Path, updates: int, *more: str) -> list[str]:
    """A run of so many updates into ``output``, its MLflow store beside; ``more`` wins."""
    store = [
        f"output={output}",
        f"logger.tracking_uri=sqlite:///{output.parent}/mlflow.db",
        f"logger.artifact_location={output.parent}/artifacts",
    ]
    return [*SMALL, *store, f"trainer.max_steps={updates}", *more]


def run(output: Path, updates: int, *more: str) -> dict[str, Any]:
    """Train in this process; the last checkpoint."""
    call_verb(composed("train", overrides(output, updates, *more)))
    return read_checkpoint(output / "checkpoints" / "last.ckpt")
