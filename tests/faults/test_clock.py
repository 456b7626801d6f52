"""Clocks that jump."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.conftest import ROOT
from tests.helpers.runs import train

WALL_CLOCK = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|today|utcnow)\(")


def test_the_wall_clock_decides_nothing() -> None:
    """It is read for time stamps, and to see how long a run or a file has been silent."""
    folders = ("src", "callbacks", "data_modules")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    reading = {path.name for path in files if WALL_CLOCK.search(path.read_text())}
    assert reading == {"files.py", "registry.py", "run.py", "watch.py"}


def test_a_run_whose_clock_jumps_is_the_same_run(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["flops_budget=1e18", "trainer.max_steps=6", "callbacks.tracking.every_frames=64"]
    weights, points = [], []
    true, day = time.time, 86_400
    for jumps in ([0], [0, 3 * day, -2 * day, day // 24]):
        clock = itertools.cycle(jumps)
        monkeypatch.setattr(time, "time", lambda clock=clock: true() + next(clock))
        output = tmp_path / f"run-{len(jumps)}" / "run"
        train(tiny_shards, output, *settings)
        weights.append(read_checkpoint(output / "checkpoints" / "last.ckpt")["state_dict"])
        client = MlflowClient(f"sqlite:///{output.parent}/mlflow.db")
        run_id = (output / "mlflow_run_id").read_text()
        history = client.get_metric_history(run_id, "train/nats")
        points.append(sorted((point.step, point.value) for point in history))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert points[0] == points[1]
    assert len(points[0]) >= 5
