"""The wheel works by itself: installed into an empty environment, run from outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.runs import overrides
from tests.helpers.stores import new_store
from tests.scaling.synthetic import known_cells

PARTS = ("src", "conf", "callbacks", "data_modules", "pyproject.toml", "README.md", "LICENSE")
DRIVER = """
import json, sys
from pathlib import Path
import agent_scaling, callbacks, conf, data_modules
from agent_scaling.cli.main import main
for package in (agent_scaling, callbacks, conf, data_modules):
    assert Path(package.__file__).is_relative_to(sys.prefix), package
for words in json.loads(sys.argv.pop()):
    sys.argv[:] = ["agent-scaling", *words]
    try:
        main()
    except SystemExit as error:  # doctor has limits of time, which a loaded machine exceeds
        assert words[0] == "doctor" or not error.code, words
"""
"""Runs one command after the other in a process that starts once."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; the libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PARTS:  # a build leaves folders where it stands
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(built, check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    into = [*pip, "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel]
    subprocess.run(into, check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_the_verbs_run_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    games, shards = tmp_path / "games", tmp_path / "shards"
    table = tmp_path / "runs.csv"
    known_cells(0.02, 4, budgets=4, sizes=4).to_csv(table)
    train = overrides(shards, tmp_path / "run", "flops_budget=1e8", "data.lanes=1")
    commands = [
        ["demonstrate", "games=4", "max_steps=40", "processes=1", f"output={games}"],
        ["shard", f"input={games}", f"output={shards}", "val_fraction=0.5", "processes=1"],
        ["train", *train, "callbacks.reference_players=null"],
        ["fit", f"path={table}", "bootstraps=0", f"output={tmp_path}/fit"],
        ["doctor", f"tracking_uri={new_store(tmp_path / 'mlflow.db')}"],
    ]
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [installed, "-c", DRIVER, json.dumps(commands)],
        cwd=tmp_path, env=own, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert "Forecast of loss, not tested: " in done.stdout
    assert "MLflow store" in done.stdout  # the last line of doctor's
    assert "plotly" in (tmp_path / "fit" / "report.html").read_text(encoding="utf-8")


def test_the_wheel_has_a_console_script(installed: Path, tmp_path: Path) -> None:
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program = installed.with_name("agent-scaling")
    done = subprocess.run(
        [program, "--version"], cwd=tmp_path, env=own, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("agent-scaling ")
