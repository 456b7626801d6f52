"""``benchmarks/soak_games.py`` counts workers that die, and loses no episode that can be played."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("new_interpreters")  # a variable has them print a stack

TOY = "tests.envs.toy_game:Toy"
SEED = 4  # of lane 0's fifth episode


@pytest.fixture
def soak_games(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "")  # which the soak sets
    return importlib.import_module("soak_games")


def toys(soak_games, once: str = ""):
    options = {"trouble": {"crash": SEED}, "once": once}
    *_, found = soak_games.soak(1600, 0, {"toy": soak_games.Kind(1.0, TOY, options)})
    return found["toy"]


def test_a_worker_that_dies_once_is_counted_and_costs_no_episode(soak_games, tmp_path, capfd):
    counts = toys(soak_games, str(tmp_path / "done"))
    assert counts.deaths == {"it exited with -11": 1}
    assert counts.lost == 0
    assert counts.steps > 1000
    assert counts.episodes > 100
    assert "_misbehave" in capfd.readouterr().err  # the stack


def test_an_episode_that_always_crashes_is_lost(soak_games):
    counts = toys(soak_games)
    assert counts.deaths == {"it exited with -11": 3}
    assert counts.lost == 1


def test_a_file_adds_up_calls_that_were_stopped_too(soak_games, tmp_path, monkeypatch):
    kind = soak_games.Kind(1.0, TOY, {"trouble": {}})
    monkeypatch.setattr(soak_games, "kinds", lambda: {"toy": kind})
    into = tmp_path / "soak.json"
    assert soak_games.soak_games(1600, 0, into) == 0
    whole = read(soak_games, into)
    stop_after_a_round(soak_games, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        soak_games.soak_games(1600, 1, into)
    both = read(soak_games, into)
    assert whole["toy"].steps < both["toy"].steps < 2 * whole["toy"].steps
    assert len(whole["toy"].growth) == 1


def read(soak_games, into: Path):
    return {
        name: soak_games.Counts(**counts) for name, counts in json.loads(into.read_text()).items()
    }


def stop_after_a_round(soak_games, monkeypatch):
    play = soak_games.soak

    def stopped(*args):
        yield next(play(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(soak_games, "soak", stopped)
