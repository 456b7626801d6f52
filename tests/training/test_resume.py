"""A run that was killed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from mlflow import MlflowClient

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.files import PARTIAL
from tests.helpers.runs import STEP_FRAMES, child

STEPS, EVERY = 40, 3
"""More than five kills get to: each is within 8 steps of the last save, and saves 6 at most."""
SETTINGS = [
    f"trainer.max_steps={STEPS}",
    "flops_budget=1e18",  # out of reach
    "callbacks.tracking.every_frames=64",  # a point a step
    f"callbacks.checkpoints.every_frames={EVERY * STEP_FRAMES}",
    "callbacks.reference_players=null",
]
COMPARED = ("state_dict", "optimizer_states", "lane_state", "frames", "rng", "ShardsDataModule")


def run_to_end(shards: Path, output: Path, *more: str) -> dict[str, Any]:
    process = child(shards, output, *more)
    process.join(600)
    assert process.exitcode == 0
    return read_checkpoint(output / "checkpoints" / "last.ckpt")


def assert_same(ours: Any, theirs: Any, where: str = "checkpoint") -> None:
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    else:
        assert ours == theirs, where


@pytest.fixture(scope="module")
def undisturbed(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The last checkpoint of a run that nobody killed."""
    return run_to_end(tiny_shards, tmp_path_factory.mktemp("undisturbed") / "run", *SETTINGS)


def wait_for_saves(process: BaseProcess, last: Path, saves: int) -> None:
    """Return when ``last`` was written ``saves`` more times."""
    seen = last.stat().st_mtime_ns if last.exists() else 0
    while saves > 0:
        assert process.is_alive()
        time.sleep(0.005)
        now = last.stat().st_mtime_ns if last.exists() else 0
        saves -= now != seen
        seen = now


class KilledAt(Callback):
    """Kills its own process: after ``steps`` steps, and ``part`` of EVERY more as it makes them.

    (Not after some seconds: on a fast machine the run would be over, on a slow one not begun.)
    """

    def __init__(self, steps: int, part: float) -> None:
        self.steps, self.part = steps, part
        self.ends: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.ends.append(time.monotonic())
        if len(self.ends) == self.steps:
            step = min(after - before for before, after in pairwise(self.ends))
            kill = (os.getpid(), signal.SIGKILL)
            threading.Timer(EVERY * self.part * step, os.kill, kill).start()


@pytest.mark.parametrize(("workers", "others"), [(0, 2), (3, 1)])
def test_killed_at_five_random_moments_and_resumed(
    tiny_shards: Path, undisturbed: Any, tmp_path: Path, workers: int, others: int
) -> None:
    """The number of workers may change from one resume to the next: from 0 to 3, each is tried."""
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    print(f"kill points drawn with seed {seed}")
    output = tmp_path / "run"
    settings = [*SETTINGS, "ckpt_path=last"]
    for kill in range(5):
        count = workers if kill % 2 == 0 else others
        moment = f"steps: {draw.randint(2, EVERY + 2)}, part: {draw.random()}"
        killer = f"+callbacks.killer={{_target_: tests.training.test_resume.KilledAt, {moment}}}"
        process = child(tiny_shards, output, *settings, f"data.workers={count}", killer)
        process.join(600)
        assert process.exitcode == -signal.SIGKILL
    folder = output / "checkpoints"
    for name in ("last.ckpt", "previous.ckpt"):  # what a kill in the middle of a save leaves
        (folder / f".{name}.node-7{PARTIAL}").write_bytes(b"part")
    last = run_to_end(tiny_shards, output, *settings, f"data.workers={others}")
    assert not list(folder.glob(".*"))
    assert last["frames"] == STEPS * STEP_FRAMES
    for part in COMPARED:
        assert_same(last[part], undisturbed[part], part)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    for name in ("flops", "train/nats"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        frames = [STEP_FRAMES * step for step in range(name == "train/nats", STEPS + 1)]
        assert sorted(steps) == frames, name


def test_sigterm_saves_and_exits_143(tiny_shards: Path, undisturbed: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    process = child(tiny_shards, output, *SETTINGS)
    wait_for_saves(process, output / "checkpoints" / "last.ckpt", 2)
    process.terminate()
    process.join(600)
    assert process.exitcode == 128 + signal.SIGTERM
    interrupted = read_checkpoint(output / "checkpoints" / "last.ckpt")
    assert 0 < interrupted["frames"] < undisturbed["frames"]
    last = run_to_end(tiny_shards, output, *SETTINGS, "ckpt_path=last")
    for part in COMPARED:
        assert_same(last[part], undisturbed[part], part)
