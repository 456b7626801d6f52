"""torchrun, as the documentation says it, and what ranks that die leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.conftest import ROOT
from tests.helpers.runs import UNCOMPARED, overrides, train
from tests.helpers.servers import free_port

SETTINGS = [
    "flops_budget=1e18",
    "callbacks.checkpoints.every_frames=256",  # 4 steps
    *UNCOMPARED,
    "policy.encoder.residual_blocks=0",  # BatchNorm's statistics are each rank's own
    "policy.encoder.crop_norm=false",
    "+optimizer.eps=0.01",  # or Adam takes the sign of gradients that are nothing but rounding
]
STEPS = 11
SCRIPT = ROOT / "docs" / "slurm" / "torchrun.sh"


def test_killed_ranks_end_all_and_the_run_goes_on_from_its_checkpoint(
    tiny_shards: Path, tmp_path: Path, forked: Path
) -> None:
    """Rank 0 dies in step 6, torchrun starts both again; then rank 1 does, after 6 more."""
    output = tmp_path / "run"
    path = f"{forked.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    killed = "+callbacks.killed={_target_: tests.ddp.killed.Killed, ranks: [0, 1], steps: 6}"
    settings = ["trainer.accelerator=cpu", "threads=1", *SETTINGS, killed]
    own = {
        "EXPERIMENT": "nethack_bc_paper",
        "DEVICES": "2",
        "HEAD": f"localhost:{free_port()}",
        "RESTARTS": "1",
    }
    ended = subprocess.run(
        ["bash", SCRIPT, *overrides(tiny_shards, output, *settings)[1:]],  # it names the experiment
        env=os.environ | own | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode not in (0, None)
    assert ended.stderr.count("Signal 9 (SIGKILL)") == 1
    last, whole = output / "checkpoints" / "last.ckpt", tmp_path / "whole"
    assert read_checkpoint(last)["global_step"] == 8
    for folder in (output, whole):
        train(tiny_shards, folder, *SETTINGS, "ckpt_path=last", f"trainer.max_steps={STEPS}")
    ours, theirs = (
        read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (output, whole)
    )
    assert ours["frames"] == theirs["frames"] == STEPS * 64
    for part in ("state_dict", "lane_state"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=1e-4, atol=1e-6)
