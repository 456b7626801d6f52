"""IMPALA under fire: killed game workers and a killed trainer cost their episodes, nothing more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
from lightning import Callback, LightningModule, Trainer

from agent_scaling.envs.pool.processes import Nursery, Worker
from agent_scaling.envs.pool.worker import Assignment
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.errors import InputError
from tests.helpers.impala_runs import LANES, STEPS, child, history, run
from tests.helpers.workers import game_workers, pool_memory

pytestmark = pytest.mark.usefixtures("new_interpreters")

FRAMES = LANES * STEPS
WORKERS = 2
BESIDE = [
    "data.asynchronous=true",
    f"data.workers={WORKERS}",
    "data.groups=2",
    f"callbacks.tracking.every_frames={FRAMES}",
]


class KillWorkers(Callback):
    """Kills the oldest game worker at these updates: each time another one."""

    def __init__(self, updates: list[int]) -> None:
        self.updates = updates

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Kill."""
        if trainer.global_step in self.updates:
            game_workers()[0].kill()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where games keep their files."""
    games = tmp_path / "games"
    games.mkdir()
    monkeypatch.setenv("TMPDIR", str(games))
    monkeypatch.setattr("tempfile.tempdir", str(games))
    return games


def test_killed_workers_cost_their_episodes_and_the_run_goes_on(
    tmp_path: Path, folder: Path
) -> None:
    updates, kills = 16, [4, 9]
    target = "tests.training.test_impala_kill.KillWorkers"
    killer = f"+callbacks.killer={{_target_: {target}, updates: {kills}}}"
    before = pool_memory()
    saved = run(tmp_path / "run", updates, *BESIDE, killer)
    assert saved["frames"] == updates * FRAMES
    points = history(tmp_path / "run")["train/restarted"]
    assert sum(points.values()) == len(kills) * LANES // WORKERS
    assert {frames // FRAMES for frames, n in points.items() if n} <= set(range(kills[0], updates))
    assert game_workers() == []
    assert pool_memory() == before
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_workers_that_die_while_they_start_are_one_line(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: str
) -> None:
    start = Nursery.start

    def start_and_kill(nursery: Nursery, assignment: Assignment) -> Worker:
        worker = start(nursery, assignment)
        os.kill(worker.pid, signal.SIGKILL)
        return worker

    monkeypatch.setattr(Nursery, "start", start_and_kill)
    with pytest.raises(InputError, match="a game worker does not start: it exited with -9"):
        run(tmp_path / "run", 2, *BESIDE, f"data.asynchronous={asynchronous}")
    assert game_workers() == []
    assert list(folder.iterdir()) == []


def wait_until(true: Callable[[], bool], alive: BaseProcess | None = None) -> None:
    deadline = time.monotonic() + 600  # of a machine that others use
    while not true():
        assert time.monotonic() < deadline
        assert alive is None or alive.is_alive()
        time.sleep(0.01)


def test_a_killed_run_resumes_from_its_checkpoint(tmp_path: Path, folder: Path) -> None:
    output, every, updates = tmp_path / "run", 4, 100_000
    saves = f"callbacks.checkpoints.every_frames={every * FRAMES}"
    last = output / "checkpoints" / "last.ckpt"
    process = child(output, updates, *BESIDE, saves)
    try:
        wait_until(last.with_name("previous.ckpt").exists, process)
        workers = game_workers(psutil.Process(process.pid))
        assert len(workers) == WORKERS
        assert list(folder.iterdir())
    finally:
        process.kill()
        process.join()
    wait_until(lambda: not any(worker.is_running() for worker in workers))
    wait_until(lambda: not list(folder.iterdir()))

    saved = read_checkpoint(last)["frames"]
    assert saved % (every * FRAMES) == 0
    ends = run(output, saved // FRAMES + 3, *BESIDE, saves, "ckpt_path=last")
    assert ends["frames"] == saved + 3 * FRAMES
    logged = history(output)
    assert sorted(logged["train/restarted"]) == [FRAMES * n for n in range(1, saved // FRAMES + 4)]
    # All lanes begin again, once.
    assert sum(logged["train/restarted"].values()) == LANES
    assert logged["train/restarted"][saved + FRAMES] == LANES
