"""torchrun, as the documentation says it, and what a rank that dies leaves behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from agent_scaling.checkpoint import read_checkpoint
from tests.conftest import ROOT
from tests.runs import overrides, train

ENDLESS = [
    "flops_budget=1e18",
    "callbacks.checkpoints.every_frames=256",
    "callbacks.baselines=null",
]


def test_a_killed_rank_ends_all_and_the_run_goes_on_from_its_checkpoint(
    tiny_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    program = str(Path(sys.executable).with_name("agent-scaling"))
    settings = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", *ENDLESS]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    run = subprocess.Popen(
        [sys.executable, *torchrun, program, "train", *overrides(tiny_shards, output, *settings)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = output / "checkpoints" / "last.ckpt"
    try:
        while not last.exists():
            assert run.poll() is None
            time.sleep(0.05)
        ranks = psutil.Process(run.pid).children()
        (victim,) = [rank for rank in ranks if rank.environ()["RANK"] == "1"]
        victim.kill()
        _, errors = run.communicate(timeout=600)  # torchrun ends the others after half a minute
    finally:
        run.kill()
    assert run.returncode not in (0, None)
    assert "Signal 9 (SIGKILL)" in errors
    assert not any(rank.is_running() for rank in ranks)
    saved = read_checkpoint(last)
    train(
        tiny_shards,
        output,
        *ENDLESS,
        f"trainer.max_steps={saved['global_step'] + 2}",
        "ckpt_path=last",
    )
    assert read_checkpoint(last)["frames"] == saved["frames"] + 2 * 64
