"""A newcomer's way through the README: its commands in order, in an empty folder, by the console
script, at the size of a test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import ROOT
from tests.docs.commands import commands, tiny
from tests.scaling.synthetic import ALPHA, BETA, A, B, E, optimum

SMALL = (
    "policy.encoder.width=16 policy.encoder.message_width=8 policy.encoder.status_width=16 "
    "policy.encoder.map_width=16 policy.encoder.blocks=2 policy.encoder.residual_blocks=1 "
    "data.val_frames=200 callbacks.model=null callbacks.reference_players=null "
    "callbacks.rollouts.episodes=2 callbacks.rollouts.max_episode_steps=20"
)
SWAPS = {
    "games=20": "games=5 max_steps=200 processes=1",
    "flops_budget=1e12": f"flops_budget=6e8 {SMALL}",
    "milestones=[1e11]": "milestones=[3e8]",
    "episodes=20": "episodes=2 max_episode_steps=20 workers=1",
    "study=miniature": (
        "study=miniature budgets=[1e9,2e9] sizes=[5e3] budget=null "
        "train.data.val_frames=200 train.callbacks.rollouts=null +train.callbacks.model=null "
        "+train.callbacks.baselines=null hydra/launcher=basic"
    ),
    "forecast=[1e19]": "forecast=[1e19] bootstraps=0",
}
"""What the README says → what is small enough for a test; whole studies are in
tests/studies/test_study.py."""
SECTIONS = ("The main job, step by step", "Your own games", "Studies", "Laws")


def section(title: str) -> str:
    """A section of the README."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", (ROOT / "README.md").read_text(), re.M | re.S)
    assert found, title
    return found[1]


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


def run(words: list[str], folder: Path) -> str:
    """What a command prints; it must succeed."""
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run(
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.usefixtures("one_thread")
def test_the_readme_works_as_it_is_written(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    for title in SECTIONS:
        page.write_text(section(title))
        if title == "Laws":
            write_runs(tmp_path / "runs.csv")
        for command in commands(page):
            if command.words[0] == "agent-scaling":
                run(tiny(command, SWAPS), tmp_path)
    assert len(pd.read_parquet("episodes/episodes.parquet")) == 2
    assert Path("episodes/replays/best.html").is_file()
    assert Path("laws/report.html").is_file()
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("nethack")
    runs = client.search_runs([experiment.experiment_id])
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert all("val/nats" in r.data.metrics for r in runs if r.data.tags.get("kind") != "study")


@pytest.fixture
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the folder; small steps on many threads are slow where cores are shared."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


def test_each_swap_is_of_a_word_that_is_there(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("".join(section(title) for title in SECTIONS))
    words = {word for command in commands(page) for word in command.words}
    assert set(SWAPS) <= words
