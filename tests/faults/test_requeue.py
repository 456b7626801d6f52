"""Which jobs the script for SLURM puts back, with stand-ins for all programs that it calls; a real
SLURM runs it in ``tests/slurm``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "docs" / "slurm" / "train.sbatch"
PROGRAMS = {
    "srun": 'shift; SLURM_PROCID=0 exec "$@"',
    "squeue": "echo $STATE",
    "scontrol": 'echo "$@"',
    "agent-scaling": "exit $STATUS",
}
JOB = {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "1"}


@pytest.mark.parametrize(
    ("status", "state", "ended", "asked"),
    [
        (0, "RUNNING", 0, ""),
        (143, "RUNNING", 143, "requeue 7\n"),
        (143, "COMPLETING", 143, ""),  # its user has cancelled it
        (2, "RUNNING", 255, ""),
        (137, "RUNNING", 255, ""),
    ],
)
def test_a_job_is_put_back_only_when_it_was_told_to_stop(
    tmp_path: Path, status: int, state: str, ended: int, asked: str
) -> None:
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    said = {"STATUS": str(status), "STATE": state}
    done = subprocess.run(
        ["bash", SCRIPT],
        env=os.environ | JOB | own | said,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (ended, asked)
