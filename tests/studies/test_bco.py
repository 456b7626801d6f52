"""Cloning games without actions in turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent_scaling.config.call import call_verb
from agent_scaling.config.kept import keep
from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.bco import SETTINGS, Learner, train
from tests.helpers.runs import composed
from tests.helpers.stores import new_store

LEARNERS = ("inverse", "clone")
FEW = ["lanes=2", "val_lanes=2", "val_frames=64"]


@pytest.fixture(scope="module")
def silent(tiny_games: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny games without their actions."""
    folder = tmp_path_factory.mktemp("silent") / "shards"
    shard(input=str(tiny_games), output=str(folder), val_fraction=0.4, actions=False)
    return folder


def words(silent: Path, truth: Path, games: Path, root: Path) -> list[str]:
    small = [f"{who}.data.{setting}" for who in ("+inverse", "+clone") for setting in FEW]
    store = [
        f"+{who}.logger.tracking_uri=sqlite:///{root}/mlflow.db" for who in ("inverse", "clone")
    ]
    return [
        f"input={silent}", f"truth={truth}", f"recordings={games}", f"output={root}/out", "games=2",
        "max_steps=30", "val_fraction=0.4", "inverse_params=5e3", "inverse_budget=5e7",
        "clone_params=1e4", "clone_budget=8e6", "+clone.callbacks.model=null", *small, *store,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("input=nowhere", "nowhere/manifest.json is missing"),
        ("input={shards}", "input=.*: has actions already"),
        ("truth={silent}", "truth=.*: has no actions to compare with"),
        ("recordings=nowhere", "recordings=nowhere: no such folder"),
        ("+inverse.logger.tracking_uri=mlruns", "tracking_uri=mlruns: is a folder"),
        ("val_fraction=0", "val_fraction=0: input should be greater than 0"),
        ("clone_budget=nan", "clone_budget=nan: input should be a finite number"),
        ("turns=-1", "turns=-1: input should be greater than or equal to 0"),
    ],
)
def test_what_no_turn_could_use_is_said_before_anything_is_played(
    tiny_shards: Path, silent: Path, tmp_path: Path, word: str, line: str
) -> None:
    given = [f"input={silent}", f"output={tmp_path}/out"]
    new_store(tmp_path / "m.db")
    given += [f"+{who}.logger.tracking_uri=sqlite:///{tmp_path}/m.db" for who in LEARNERS]
    given = [other for other in given if other.partition("=")[0] != word.partition("=")[0]]
    with pytest.raises(InputError, match=line):
        call_verb(composed("bco", [*given, word.format(shards=tiny_shards, silent=silent)]))
    assert not (tmp_path / "out").exists()


def test_turns_learn_from_what_the_clones_play(
    tiny_games: Path,
    tiny_shards: Path,
    silent: Path,
    tmp_path: Path,
    forked: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("agent_scaling.studies.bco.executable", lambda: str(forked))
    out = tmp_path / "out"
    new_store(tmp_path / "mlflow.db")
    given = words(silent, tiny_shards, tiny_games, tmp_path)
    call_verb(composed("bco", [*given, "turns=0"]))
    (first, _) = json.loads((out / "turns.json").read_text())
    call_verb(composed("bco", [*given, "turns=1"]))  # goes on
    rows = json.loads((out / "turns.json").read_text())
    assert [row["turn"] for row in rows] == [0, 1, "true actions"]
    assert rows[0] == first
    for row in rows:
        assert np.isfinite([row["nats"], row["return"]]).all()
    assert all(0 < row["keys_right"] < 1 for row in rows[:2])
    # The second model's games are the first one's and those that the first clone played.
    games = [
        {
            game.id
            for split in ("train", "val")
            for game in ShardReader(out / turn / "shards", split).games
        }
        for turn in ("turn_0", "turn_1")
    ]
    assert games[0] < games[1]
    assert len(games[1] - games[0]) == 2
    # A clone learns from its turn's labels, not from the true actions.
    for turn in (0, 1):
        config = (out / f"turn_{turn}" / "clone" / "config.yaml").read_text()
        assert f"turn_{turn}/labelled" in config
    with pytest.raises(InputError, match=r"other settings \(games\)"):
        call_verb(composed("bco", [*given, "games=3"]))


def test_a_step_that_fails_is_named(
    tmp_path: Path, tiny_shards: Path, silent: Path, forked: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("agent_scaling.studies.bco.executable", lambda: str(forked))
    (tmp_path / "empty").mkdir()
    given = words(silent, tiny_shards, tmp_path / "empty", tmp_path)
    with pytest.raises(InputError, match=r"shard failed: error: .*shards\.log"):
        call_verb(composed("bco", given))


def test_settings_are_checked_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nonsense: no such key"):
        call_verb(composed("bco", [f"input={tmp_path}", "+clone.nonsense=1"]))
    assert not list(tmp_path.iterdir())


def test_passwords_of_urls_are_not_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("agent_scaling.studies.bco.step", lambda *_, **__: None)
    url, out = "http://me:hidden@host/shards", tmp_path / "out"
    for _ in ("new", "the same again"):
        keep({"input": url, "clone": {"data": {"shards": url}}}, out / SETTINGS, "turns")
    learner = Learner({"experiment": "nethack_bc"}, 1e4, 1e8)
    train(learner, out / "turn_0" / "clone", 0, {"data.val_shards": url})
    written = [path.read_text() for path in out.rglob("*") if path.is_file()]
    assert len(written) == 2
    assert all("***@host/shards" in text and "hidden" not in text for text in written)
