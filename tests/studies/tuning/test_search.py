"""The search: it beats random search, goes on after a kill, and reads its space."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.tuning.rungs import budgets_of
from agent_scaling.studies.tuning.search import Search, library
from agent_scaling.studies.tuning.space import Key, space_of
from tests.conftest import ROOT

KEYS = [Key("lr", (), 1e-3, 1e-1), Key("lanes", (4, 8, 16)), Key("depth", (), 1, 8, False)]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("tune")
    finally:
        sys.path.pop(0)


def opened(folder: Path, **more: Any) -> Search:
    settings = {"rungs": 3, "eta": 2, "sampler": "tpe", "pruner": "halving", "seed": 1}
    return Search(folder / "journal", KEYS, maximise=False, **{**settings, **more})


def value(trial: Any) -> float:
    """A loss that higher rungs lower, best at lr 1e-2 and 8 lanes."""
    off = abs(np.log10(trial.settings["lr"]) + 2) + (trial.settings["lanes"] != 8)
    return float(2.0 - 0.1 * trial.rung + off)


def test_it_beats_random_search_at_equal_flops(benchmark: ModuleType) -> None:
    total = 6 * benchmark.BUDGET
    tuned, drawn = (
        [benchmark.regret(*benchmark.SEARCHES[name], total, seed) for seed in range(12)]
        for name in ("tune (tpe, halving)", "random, each to its end")
    )
    assert np.median(tuned) < 0.7 * np.median(drawn)


@pytest.mark.parametrize("pruner", ["halving", "hyperband", "none"])
def test_a_search_that_is_opened_again_goes_on_as_one_that_was_not(
    tmp_path: Path, pruner: str
) -> None:
    def go(folder: Path, again: bool) -> list[Any]:
        folder.mkdir()
        search = opened(folder, pruner=pruner)
        search.begin_with({"lr": 3e-2, "lanes": 4, "depth": 2})
        for _ in range(14):
            trial = search.ask()
            while trial.state == "goes on":
                if again:
                    search = opened(folder, pruner=pruner)
                    search.begin_with({"lr": 1e-3, "lanes": 4, "depth": 2})  # it has begun
                trial = search.tell(trial, value(trial))
        return search.trials()

    once = go(tmp_path / "once", False)
    assert go(tmp_path / "again", True) == once
    assert once[0].settings == {"lr": 3e-2, "lanes": 4, "depth": 2}
    assert len({trial.settings["lr"] for trial in once}) == len(once)
    assert all(isinstance(trial.settings["depth"], int) for trial in once)
    finished = [trial for trial in once if trial.state == "finished"]
    assert all(set(trial.values) == {0, 1, 2} for trial in finished)
    stopped = [trial for trial in once if trial.state == "stopped"]
    assert all(max(trial.values) < 2 for trial in stopped)
    assert bool(stopped) == (pruner != "none")


def test_the_best_is_one_of_the_highest_rung(tmp_path: Path) -> None:
    search = opened(tmp_path, rungs=2, pruner="none")
    for losses in ((1.5, 1.2), (1.4, 1.3), (1.0,)):
        trial = search.ask()
        for loss in losses:
            trial = search.tell(trial, loss)
    assert [trial.number for trial in search.ranked()] == [0, 1, 2]
    trial = search.tell(search.ask(), float("nan"))
    assert trial.state == "diverged"
    assert search.ranked()[-1].number == trial.number
    assert search.end(search.ask(), "failed").state == "failed"


def test_what_a_kill_leaves_in_the_journal_is_mended(tmp_path: Path) -> None:
    search = opened(tmp_path)
    trial = search.tell(search.ask(), 1.0)
    journal = tmp_path / "journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    (tmp_path / "journal.lock").symlink_to(journal)
    search = opened(tmp_path)
    assert search.trials() == [trial]
    assert opened(tmp_path).ask().number == 1
    assert len(opened(tmp_path).trials()) == 2


def test_rungs() -> None:
    assert budgets_of(3e10, 3, 3) == (3.333e9, 1e10, 3e10)
    assert budgets_of(3e10, 1, 3) == (3e10,)


def test_space() -> None:
    given = {"optimizer": {"lr": {"lowest": 1e-3, "highest": 1}}, "policy/core": ["lstm", "none"]}
    rate, core = space_of(given)
    assert rate == Key("optimizer.lr", (), 1e-3, 1)
    assert core == Key("policy/core", ("lstm", "none"))
    assert rate.has(0.5)
    assert not rate.has(2.0)
    assert not rate.has(None)
    assert rate.tidy(0.123456) == 0.1235
    assert rate.tidy(0.000999999999) == 1e-3  # digits do not leave the range
    whole = Key("data.lanes", (), 2, 64)
    assert not whole.has(2.5)
    assert not whole.has(True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "names no key"),
        ({"a": [1]}, r"search\.a=\[1\]: give two or more"),
        ({"a": [1, 1]}, "two or more distinct"),
        ({"a": 3}, r"search\.a=3: give two or more"),
        ({"a": {"lowest": 2, "highest": 1}}, r"search\.a: give numbers, lowest below highest"),
        ({"a": {"lowest": 1}}, "lowest below highest"),
        ({"a": {"lowest": "x", "highest": 1}}, "give numbers"),
        (
            {"a": {"lowest": 0, "highest": 1}},
            r"a\.lowest=0: must be above 0, or give",
        ),
        ({"a": {"lowest": 1, "highest": 2, "scale": "lin"}}, r"a\.scale=lin: use one of log"),
    ],
)
def test_impossible_spaces_are_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        space_of(given)


def test_without_the_extra_a_line_says_how_to_install_it(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'agent-scaling\[tune\]'"):
        library()
