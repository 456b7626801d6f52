"""A newcomer's way: the README's commands and those of the pages that it leads to, in order, in one
folder, at the size of a test."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import ROOT
from tests.docs.commands import NEWCOMERS, Command, commands, tiny
from tests.helpers.stores import new_store
from tests.helpers.ttyrecs import link_games, people_games, reference_games
from tests.scaling.synthetic import ALPHA, BETA, A, B, E, optimum

README, DOCS = ROOT / "README.md", ROOT / "docs"
SECTIONS = ("The main job, step by step", "Studies", "Laws")
ENCODER = (
    "policy.encoder.message_width=8 policy.encoder.status_width=16 policy.encoder.map_width=16 "
    "policy.encoder.blocks=2 policy.encoder.residual_blocks=1 data.val_frames=200"
)
SMALL = (
    "policy.params=10_000 callbacks.model=null callbacks.reference_players=null "
    "callbacks.rollouts.episodes=2 callbacks.rollouts.max_episode_steps=20 "
    "callbacks.rollouts.workers=1 callbacks.rollouts.replays=false data.val_frames=64"
)
CELLS = (
    "train.data.lanes=1 train.data.val_lanes=4 train.data.val_frames=64 "
    "train.callbacks.rollouts=null train.callbacks.reference_players=null "
    "+train.callbacks.model=null"
)
GRID = f"budgets=[5e6,1e7,2e7,4e7] sizes=[6e3,1e4,2e4] ratios=[0,300] {CELLS}"
IN_FEW_RUNS = "runs=milestones hydra/launcher=basic"
ONE = f"budgets=[5e6] sizes=[6e3] {CELLS}"
CLONES = ("run-aa", "run-nao", "clone")
"""Runs whose games nobody asks for."""
SWAPS = {
    "games=20": "games=5 max_steps=200 processes=1",
    "experiment=nethack_bc": f"experiment=nethack_bc {SMALL}",
    "experiment=nethack_inverse": f"experiment=nethack_inverse policy.encoder.width=16 {ENCODER}",
    **{f"output={name}": f"output={name} callbacks.rollouts=null" for name in CLONES},
    **{f"flops_budget=1e{n}": "flops_budget=4e7" for n in (11, 12, 13)},
    "milestones=[1e11]": "milestones=[2e7]",
    "milestones=[1e10,3e10]": "milestones=[1e7,2e7]",
    "callbacks.rollouts.max_episode_steps=500": "callbacks.rollouts.max_episode_steps=20",
    "ckpt=inverse-half/checkpoints/last.ckpt": "ckpt=inverse/checkpoints/last.ckpt",
    "episodes=20": "episodes=2 max_episode_steps=20 workers=1",
    "episodes=100": "episodes=2 max_episode_steps=20 workers=1",
    "episodes=1000": "episodes=3 max_episode_steps=20 workers=1",
    "max_episode_steps=500": "",
    "filters.min_score=1000": "filters.min_score=1",
    "speed=probe": "speed=1e9",
    "plan=mini": "plan=mini run=6k-5e6",
    "budget=1e13": "budget=2e7",
    "experiment=30k-3e10": "experiment=6k-5e6",
    "forecast=[1e19]": "forecast=[1e19] bootstraps=0",
    "source=mlflow": "source=mlflow bootstraps=0 figures=false",
}
"""What the pages say → what is small enough for a test."""
SWAPS_OF = {
    "shard": {"shard": "shard processes=1"},
    "plan": {
        "study=miniature": f"study=miniature {GRID}",
        "study=demo": f"study=demo {ONE}",
        "fit=laws": "fit=laws +" + CELLS.replace("+", "").replace(" ", " +"),
    },
    "study": {
        # A run for each cell is trained in tests/studies/test_study.py.
        "study=miniature": f"study=miniature {GRID} budget=8e7 {IN_FEW_RUNS}",
        "study=demo": f"study=demo {ONE} budget=null hydra/launcher=basic",
    },
}
"""Those of some verbs alone."""
FILE = re.compile(r"^```python\n# (?P<path>\w+\.py)\n(?P<text>.*?)^```$", re.M | re.S)
"""A block of Python that is a file of its own."""
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
CODE = {"20, max_episode_steps=500": "2, max_episode_steps=20"}
"""The same for Python."""


def section(title: str) -> str:
    """A section of the README."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", README.read_text(), re.M | re.S)
    assert found, title
    return found[1]


@pytest.fixture
def folder(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the newcomer stands, with the recordings and the table that the pages take as given.

    Small steps on many threads are slow where cores are shared.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    link_games(reference_games(reference)[:3], tmp_path / "nld-aa")
    people_games(reference, tmp_path / "nld-nao")
    (tmp_path / "humans").mkdir()
    for recording in (reference / "reference" / "nle").glob("*.ttyrec.bz2"):
        shutil.copy(recording, tmp_path / "humans")
    write_runs(tmp_path / "runs.csv")
    new_store(tmp_path / "mlflow.db")
    return tmp_path


def write_runs(path: Path) -> None:
    """A table of runs such as a user has, of a law that is known."""
    rows = ["flops,params,samples,eval_loss"]
    for flops in np.geomspace(1e15, 1e18, 5):
        best, _ = optimum(flops)
        for params in best * np.geomspace(0.2, 5, 5):
            samples = flops / 6 / params
            loss = E + A / params**ALPHA + B / samples**BETA
            rows.append(f"{flops},{params},{samples},{loss}")
    path.write_text("\n".join(rows))


def run(words: list[str | Path]) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def words_of(command: Command) -> list[str]:
    """What is run of a command."""
    return tiny(command, SWAPS | SWAPS_OF.get(command.words[1], {}))


def run_page(page: Path, program: Path) -> None:
    """Write a page's files, run its commands, then its other Python, in order."""
    for match in FILE.finditer(page.read_text()):
        Path(match["path"]).write_text(match["text"])
    for command in commands(page):
        if command.words[0] == "agent-scaling" and command.why is None:
            run([program, *words_of(command)[1:]])
    for code in PYTHON.findall(FILE.sub("", page.read_text())):
        for shown, small in CODE.items():
            code = code.replace(shown, small)
        exec(compile(code, page.name, "exec"), {"__name__": page.stem})


def test_the_newcomers_way_works_as_it_is_written(folder: Path, forked: Path) -> None:
    """From the README's first command on; tests/test_wheel.py starts the console script itself."""
    page = folder / "README.md"
    for title in SECTIONS:
        page.write_text(section(title))
        run_page(page, forked)
    assert len(pd.read_parquet("episodes/episodes.parquet")) == 2
    assert Path("episodes/replays/best.html").is_file()
    assert Path("laws/report.html").is_file()
    study = Path("outputs/studies/miniature")
    assert len(pd.read_csv(study / "fit" / "cells.csv")) == 12
    assert (study / "fit" / "report.html").is_file()
    checked = json.loads((study / "check" / "forecast.json").read_text())
    assert checked["comparison"]["loss"]["measured"] > 0
    for name in NEWCOMERS:
        run_page(DOCS / name, forked)
    assert Path("first/episodes/replays/best.html").is_file()
    assert Path("final/parts/3-of-8.parquet").is_file()
    for labels in ("shards-nao-labelled", "shards-labelled", "labelled-humans"):
        assert json.loads(Path(labels, "labels.json").read_text())["frames"] == 614
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    assert {run.info.status for run in runs} == {"FINISHED"}
    trained = [run for run in runs if "kind" not in run.data.tags]
    assert all("val/nats" in run.data.metrics for run in trained)


def test_each_swap_is_of_words_that_are_there(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("".join(section(title) for title in SECTIONS))
    pages = [page, *(DOCS / name for name in NEWCOMERS)]
    shown = [command.words for page in pages for command in commands(page)]
    assert set(SWAPS) <= {word for words in shown for word in words}
    for verb, swaps in SWAPS_OF.items():
        assert set(swaps) <= {word for words in shown if words[1] == verb for word in words}
    code = "".join(page.read_text() for page in pages)
    assert all(text in code for text in CODE)
