"""Ctrl-C in a run: once saves and stops, twice does not wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning import Callback, LightningModule, Trainer
from mlflow import MlflowClient

from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.helpers.runs import UNCOMPARED, train


class Interrupted(Callback):
    """Sends its own process SIGINT, ``times`` times, in the third step, or before the first."""

    def __init__(self, times: int, first: bool = False) -> None:
        self.times, self.first = times, first

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interrupt(self.first)

    def on_before_zero_grad(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: object
    ) -> None:
        self.interrupt(not self.first and trainer.global_step == 2)

    def interrupt(self, now: bool) -> None:
        for _ in range(self.times * now):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal; Lightning ignores the signal once it was interrupted."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("how", "saved"),
    [("times: 1", True), ("times: 2", False), ("times: 1, first: true", False)],
    ids=["once", "twice", "before the first step"],
)
def test_ctrl_c_once_saves_twice_does_not_wait(
    tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str, saved: bool
) -> None:
    output = tmp_path / "a run"
    last = output / "checkpoints" / "last.ckpt"
    interrupt = f"+callbacks.interrupt={{_target_: tests.faults.test_interrupt.Interrupted, {how}}}"
    with pytest.raises(SystemExit) as stop:
        train(tiny_shards, output, "flops_budget=1e18", *UNCOMPARED, interrupt)
    assert stop.value.code == 128 + signal.SIGINT
    said, warned = capfd.readouterr()
    assert f"stopped by Ctrl-C; to go on: ckpt_path=last 'output=\"{output}\"'" in said
    assert ("again: at once" in warned) == ("first" not in how)
    assert last.exists() == saved
    if saved:
        assert read_checkpoint(last)["frames"] == 3 * 4 * 16
    (run,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert run.info.status == "KILLED"
