"""The job script for SLURM, with stand-ins for the scheduler's two programs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent_scaling.studies.cells import executable
from tests.conftest import ROOT
from tests.runs import overrides

SCRIPT = ROOT / "docs" / "slurm" / "train.sbatch"
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "$@" >> "$ASKED"\n'


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of one task."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{programs}:{Path(executable()).parent}:{os.environ['PATH']}"
    sizes = {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "1"}
    own = {"PATH": path, "SLURM_JOB_ID": "7", "ASKED": str(tmp_path / "asked")}
    return os.environ | sizes | own


def test_a_job_that_is_told_to_stop_saves_and_asks_to_be_queued_again(
    tiny_shards: Path, tmp_path: Path, job: dict[str, str]
) -> None:
    output, asked = tmp_path / "outputs" / "7", Path(job["ASKED"])
    given = [word for word in overrides(tiny_shards, output) if not word.startswith("experiment")]
    command = ["bash", str(SCRIPT), *given, "callbacks.checkpoints.every_frames=256"]
    command += [
        "callbacks.reference_players=null",
        "callbacks.model=null",
        "trainer.accelerator=cpu",
    ]
    with subprocess.Popen([*command, "flops_budget=1e18"], env=job, cwd=tmp_path) as run:
        while not (output / "checkpoints" / "last.ckpt").exists():
            assert run.poll() is None
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=120) == 143
    assert asked.read_text() == "requeue 7\n"

    asked.unlink()
    done = subprocess.run([*command, "flops_budget=1"], env=job, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert not asked.exists()
