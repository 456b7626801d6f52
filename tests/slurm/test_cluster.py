"""The job scripts of docs/slurm on a real SLURM."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from agent_scaling.data.conversion.shard import shard
from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.conftest import ROOT
from tests.ddp.ranks import finish, start
from tests.helpers.runs import UNCOMPARED, overrides
from tests.slurm.cluster import Cluster, wait_for
from tests.training.test_resume import COMPARED, assert_same

SCRIPTS = ROOT / "docs" / "slurm"
STEPS, FRAMES = 40, 4 * 16
SETTINGS = [
    "trainer.accelerator=cpu",
    "threads=1",
    f"trainer.max_steps={STEPS}",
    "flops_budget=1e18",  # out of reach
    "callbacks.checkpoints.every_frames=256",
    *UNCOMPARED,
]
NO_GPUS = ["--ntasks-per-node=2", "--cpus-per-task=1", "--gpus-per-node=0"]


def test_a_job_that_loses_a_rank_fails_and_one_that_is_preempted_goes_on_to_the_same_bits(
    slurm: Cluster, tiny_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    last, log = output / "checkpoints" / "last.ckpt", tmp_path / "log"
    given = overrides(tiny_shards, output, *SETTINGS)
    words = [*NO_GPUS, f"--output={log}", SCRIPTS / "train.sbatch", *given]
    job = slurm.submit(*words, cwd=tmp_path)

    slurm.ranks(job, 2)[1].kill()
    slurm.wait(job, "FAILED")  # and is not put back, though srun ends the other with 143
    assert "rank 1 ended with status 137" in log.read_text()
    slurm.ask("scontrol", "requeue", job)

    ranks = slurm.ranks(job, 2)
    wait_for(last.exists)
    for rank in ranks:
        rank.suspend()  # SLURM sends SIGCONT before SIGTERM
    slurm.submit("--partition=high", "--exclusive", "--wrap=true", cwd=tmp_path)
    wait_for(lambda: slurm.job(job)["Restarts"] == "2", 0.5)
    assert 0 < read_checkpoint(last)["frames"] < STEPS * FRAMES
    assert "stopped by SIGTERM; to go on: ckpt_path=last" in log.read_text()

    slurm.wait(job, "COMPLETED", "FAILED")
    assert slurm.job(job)["JobState"] == "COMPLETED", log.read_text()
    undisturbed = tmp_path / "undisturbed" / "run"
    undisturbed.parent.mkdir()
    assert finish(start(2, tiny_shards, undisturbed, *SETTINGS)) == [0, 0]
    ended, expected = read_checkpoint(last), read_checkpoint(undisturbed / "checkpoints/last.ckpt")
    assert ended["frames"] == STEPS * FRAMES
    for part in COMPARED:
        assert_same(ended[part], expected[part], part)
    (run,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert run.info.status == "FINISHED"


def test_an_array_converts_to_the_bytes_of_one_conversion(
    slurm: Cluster, tiny_games: Path, tmp_path: Path
) -> None:
    settings = {"val_fraction": 0.4, "shard_megabytes": 0.001}
    words = ["--array=1-2", "--cpus-per-task=1", SCRIPTS / "shard.sbatch", tiny_games, "shards"]
    job = slurm.submit(*words, *(f"{key}={value}" for key, value in settings.items()), cwd=tmp_path)
    shard(input=str(tiny_games), output=str(tmp_path / "whole"), processes=1, **settings)
    wait_for(lambda: not slurm.ask("squeue", "--noheader", f"--jobs={job}"), 0.5)
    logs = "".join(log.read_text() for log in tmp_path.glob("slurm-*.out"))
    assert (tmp_path / "shards" / "manifest.json").exists(), logs
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == names
    for name in names:
        assert (tmp_path / "shards" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
