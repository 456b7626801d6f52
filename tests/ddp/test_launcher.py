"""Lightning's own launcher: what stays of a run whose first rank is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from tests.helpers.runs import UNCOMPARED, forked, overrides, train

ENDLESS = [
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "threads=1",
    "flops_budget=1e18",
    "callbacks.checkpoints.every_frames=256",
    *UNCOMPARED,
]


def launch(shards: Path, output: Path) -> None:
    """The first rank; Lightning starts the second with this process's command line."""
    program = str(Path(sys.executable).with_name("agent-scaling"))
    sys.argv = [program, "train", *overrides(shards, output, *ENDLESS)]
    sys.modules["__main__"].__spec__ = None
    train(shards, output, *ENDLESS)


def test_a_rank_ends_with_the_first_whatever_it_is_at(tiny_shards: Path, tmp_path: Path) -> None:
    """The other is stopped, so that no exchange fails in it, which would end it on a CPU."""
    output = tmp_path / "run"
    first = forked(launch, tiny_shards, output)
    try:
        while not (output / "checkpoints" / "last.ckpt").exists():
            assert first.is_alive()
            time.sleep(0.05)
        (other,) = psutil.Process(first.pid).children()
        os.kill(other.pid, signal.SIGSTOP)
    finally:
        first.kill()
    late = time.monotonic() + 60
    while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:  # nobody may wait for it
        assert time.monotonic() < late
        time.sleep(0.05)
