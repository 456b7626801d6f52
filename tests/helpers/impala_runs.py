"""Small runs of IMPALA through the command line's own path."""

from __future__ import annotations

import os
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from agent_scaling.config.call import call_verb
from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.ddp.ranks import be_rank
from tests.helpers.runs import composed, forked
from tests.helpers.stores import new_store

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
    "callbacks.model=null",
    "callbacks.checkpoints.every_frames=null",
    "flops_budget=1e18",  # out of reach: runs are cut by their steps
]


def overrides(output: Path, updates: int, *more: str) -> list[str]:
    """A run of so many updates into ``output``, its MLflow store beside; ``more`` wins."""
    store = [
        f"output={output}",
        f"logger.tracking_uri={new_store(output.parent / 'mlflow.db')}",
        f"logger.artifact_location={output.parent}/artifacts",
    ]
    return [*SMALL, *store, f"trainer.max_steps={updates}", *more]


def run(output: Path, updates: int, *more: str) -> dict[str, Any]:
    """Train in this process; the last checkpoint."""
    call_verb(composed("train", overrides(output, updates, *more)))
    return read_checkpoint(output / "checkpoints" / "last.ckpt")


def child(output: Path, updates: int, *more: str) -> BaseProcess:
    """Start training in a process of its own, with this one's place for temporary files."""
    return forked(run_in, tempfile.gettempdir(), output, updates, *more)


def run_in(temporary: str, output: Path, updates: int, *more: str) -> None:
    """Train with ``temporary`` for temporary files, those of child processes among them."""
    os.environ["TMPDIR"] = tempfile.tempdir = temporary
    run(output, updates, *more)


def rank(number: int, count: int, port: int, output: Path, updates: int, *more: str) -> None:
    """One rank of a run; as a process of its own."""
    be_rank(number, count, port)
    run(output, updates, *more)


def history(output: Path) -> dict[str, dict[int, float]]:
    """Every metric of a run: frames → value."""
    client = MlflowClient(f"sqlite:///{output.parent}/mlflow.db")
    run_id = (output / "mlflow_run_id").read_text()
    return {
        name: {p.step: p.value for p in client.get_metric_history(run_id, name)}
        for name in client.get_run(run_id).data.metrics
    }
