"""The page on adding parts, as it stands: its files are a package, its commands run in order."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from agent_scaling.cli.main import main
from agent_scaling.envs.families import Description
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.studies import sweep
from tests.conftest import ROOT
from tests.docs.commands import Command, commands, tiny

PAGE = ROOT / "docs" / "extending.md"
FILE = re.compile(r"^```(?:python|yaml|toml)\n# (?P<path>\S+)\n(?P<text>.*?)^```$", re.M | re.S)
SWAPS = {
    "policy.params=100_000": "policy.params=100_000 unroll_length=8",
    "flops_budget=3e9": "flops_budget=2e7 callbacks.rollouts.episodes=2 "
    "callbacks.rollouts.workers=1 callbacks.model=null",
    "milestones=[1e9]": "milestones=[1e7]",
    "episodes=20": "episodes=2 workers=1",
}
"""What the page's commands say → what is small enough for a test."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to stand in, the page's package installed; where it is imported from is as before
    afterwards."""
    folder = tmp_path_factory.mktemp("extending")
    source, installed, here = folder / "source", folder / "installed", folder / "here"
    files = {match["path"]: match["text"] for match in FILE.finditer(PAGE.read_text())}
    files |= {"mine/__init__.py": "", "mine/conf/__init__.py": ""}
    for name, text in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    here.mkdir()
    how = ["--quiet", "--no-deps", "--no-build-isolation", "--target", installed]
    subprocess.run([sys.executable, "-m", "pip", "install", *how, source], check=True)
    plugins = Singleton._instances.pop(Plugins, None)  # it looks for them once
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed)
        patch.setenv("PYTHONPATH", str(installed))  # of the games' processes
        patch.chdir(here)
        yield here
    Singleton._instances.pop(Plugins, None)
    if plugins is not None:
        Singleton._instances[Plugins] = plugins
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def run(command: Command) -> None:
    """Run a command of the page in this process."""
    program, *words = tiny(command, SWAPS)
    with pytest.MonkeyPatch.context() as patch:
        if program == "python":
            patch.setattr(sys, "argv", words[1:])
            runpy.run_module(words[1])
        elif program == "agent-scaling":
            patch.setattr(sys, "argv", [program, *words])
            main()


def test_the_page_runs_in_order(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train_cell(run: sweep.Run, folder: Path, parent: str | None) -> str:
        trained.append(run.name)
        return "failed"

    monkeypatch.setattr(sweep, "train_cell", train_cell)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for command in commands(PAGE):
        if command.words[1] == "sweep":
            with pytest.raises(SystemExit):
                run(command)
        else:
            run(command)
    assert len(pd.read_parquet("episodes/episodes.parquet")) == 2
    assert Path("episodes/replays/best.html").stat().st_size > 1000
    cloned = load_policy("cloned/checkpoints/last.ckpt")
    assert type(cloned.core).__name__ == "GRUCore"
    assert cloned.game == Description("mine.corridor:Corridor", {"length": 6})
    assert all(
        "weights/norm" in row for row in json.loads(Path("cloned/milestones.json").read_text())
    )
    assert trained == ["20k", "10k"], "the launcher's order"


def test_a_planned_run_finds_the_packages_configs(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--config-dir", "corridors", "experiment=10k", "--cfg", "job"]
    monkeypatch.setattr(sys, "argv", ["agent-scaling", *words])
    main()
    assert "_target_: mine.pooled.PooledEncoder" in capsys.readouterr().out
