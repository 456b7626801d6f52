"""The command line as a user meets it: help, and one line for what is wrong."""

from __future__ import annotations

import resource
import subprocess
import sys
import tomllib
from pathlib import Path

from agent_scaling.cli.main import PRINTS, VERBS
from tests.conftest import ROOT
from tests.helpers.runs import UNCOMPARED, overrides, train

COMMAND = Path(sys.executable).with_name("agent-scaling")


def agent_scaling(
    *arguments: str | Path, file_size: int | None = None, program: Path = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run the command; ``file_size``: bytes beyond which no file can grow, as on a full disk.

    ``program`` stands for the console script where its start is not the point.
    """

    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        preexec_fn=limit,
    )


def test_alone_it_explains_itself() -> None:
    done = agent_scaling()
    assert done.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


def test_it_says_its_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert agent_scaling("--version").stdout == f"agent-scaling {version}\n"


AT_THE_END = """
import atexit, gc, sys
atexit.register(lambda: print(len(gc.get_objects())))
from agent_scaling.cli.main import main
sys.argv[1:] = ["--version"]
main()
"""


def test_its_end_follows_no_object() -> None:
    """Otherwise it takes seconds: all of torch and MLflow, several times."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 100


def test_help_takes_choices() -> None:
    done = agent_scaling("train", "data=actors", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("agent-scaling train experiment=")
    assert "\ndata. game=??? " in done.stdout


def test_a_part_for_the_whole_is_one_line_and_nothing_is_written(
    tmp_path: Path, forked: Path
) -> None:
    done = agent_scaling(
        "train", "callbacks=ema", f"output={tmp_path}/run", "flops_budget=1e9", program=forked
    )
    assert "callbacks=ema: is one part" in one_line(done)
    assert not (tmp_path / "run").exists()


def test_a_key_that_the_verb_has_not_is_one_line(forked: Path) -> None:
    done = agent_scaling("rollout", "ckpt=random", "+temprature=2", program=forked)
    assert "temprature: no such key; did you mean temperature?" in one_line(done)


def test_a_printed_config_shows_no_password(forked: Path) -> None:
    words = ("train", "data.shards=http://bob:PW@host/x", "--cfg", "job")
    done = agent_scaling(*words, program=forked)
    assert "shards: http://***@host/x" in done.stdout
    assert "PW" not in done.stdout + done.stderr


def test_output_is_held_back_only_where_hydra_prints_a_config() -> None:
    """A run with ``-cd`` prints as it goes."""
    assert all(map(PRINTS.match, ("-c", "-cjob", "--cfg", "--cfg=job", "-i", "--info")))
    assert not any(map(PRINTS.match, ("-cd", "-cn", "-cp", "--config-dir", "output=-c")))


def test_unknown_verb_is_one_line() -> None:
    done = agent_scaling("trian")
    assert done.returncode == 2
    assert done.stderr == f"error: unknown verb 'trian'; known: {', '.join(VERBS)}\n"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    return lines[0]


def test_shards_that_are_not_there(tmp_path: Path, forked: Path) -> None:
    done = agent_scaling(
        "train", *overrides(tmp_path / "none", tmp_path / "run"), "flops_budget=1e9", program=forked
    )
    assert str(tmp_path / "none") in one_line(done)


def test_output_that_cannot_be_written(tmp_path: Path, forked: Path) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "run"
    done = agent_scaling("train", *overrides(tmp_path, output), "flops_budget=1e9", program=forked)
    assert "output=" in one_line(done)


def test_checkpoint_that_is_not_there(tmp_path: Path, forked: Path) -> None:
    done = agent_scaling(
        "rollout", f"ckpt={tmp_path}/none.ckpt", f"output={tmp_path}/out", program=forked
    )
    assert "none.ckpt" in one_line(done)


def test_disk_full_at_a_checkpoint(tiny_shards: Path, tmp_path: Path, forked: Path) -> None:
    """The error names the file; the checkpoint before it is intact, and the run goes on from it."""
    output = tmp_path / "run"
    settings = ["callbacks.checkpoints.every_frames=128", "flops_budget=1e18", *UNCOMPARED]
    train(tiny_shards, output, *settings, "trainer.max_steps=2")
    last = output / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    more = [*settings, "trainer.max_steps=5", "ckpt_path=last"]
    words = overrides(tiny_shards, output, *more)
    done = agent_scaling("train", *words, file_size=len(before) // 2, program=forked)
    assert "last.ckpt" in one_line(done)
    assert last.read_bytes() == before
    assert not list(last.parent.glob(".*.partial"))
    train(tiny_shards, output, *more)
