"""Players that users bring: the page's example, faults, and what counts as a key."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from nle import nethack

from agent_scaling.data.recordings.ttyrec import TtyrecSource
from agent_scaling.envs.actions import key_to_action
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from agent_scaling.playing.demonstrators.own_player import PlayerError, action_of, find_player
from agent_scaling.runtime.errors import InputError
from tests.conftest import ROOT

FAULTY = """
class Failing:
    def __init__(self, seed):
        self.seed, self.steps = seed, 0

    def act(self, observation):
        self.steps += 1
        if self.seed == 1 and self.steps == 5:
            raise KeyError("sword")
        return "s"


class Typing(Failing):
    def act(self, observation):
        return "word"


class Unmade:
    act = None
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the user stands in, with the page's file and one of faulty players."""
    page = (ROOT / "docs" / "own_data.md").read_text()
    found = re.search(r"^```python\n# bot\.py\n(.*?)^```$", page, re.M | re.S)
    assert found
    (tmp_path / "bot.py").write_text(found[1])
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("bot", "faulty"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def lines_of(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "games.jsonl").read_text().splitlines()]


def test_the_pages_players_are_recorded_as_the_scripted_one(folder: Path) -> None:
    demonstrate(
        player="bot:Walker",
        games=2,
        seed=6,
        max_steps=60,
        processes=1,
        output="walks",
        character="val",
    )
    found = TtyrecSource().discover(folder / "walks")
    assert [game.identity for game in found.games] == ["000006/nle.6.0", "000007/nle.7.0"]
    assert found.skipped == ()
    assert all(game.metadata["role"] == "Val" for game in found.games)
    inventories = sorted(path.name for path in (folder / "walks").rglob("*.inventory.bz2"))
    assert inventories == ["nle.6.0.inventory.bz2", "nle.7.0.inventory.bz2"]
    walks = lines_of(folder / "walks")
    assert [line["env_steps"] for line in walks] == [60, 60]
    assert all(line["options"] == {"character": "val", "player": "bot:Walker"} for line in walks)
    keys = next(iter(TtyrecSource().decode(folder / "walks", found.games[0], 100))).key
    assert {chr(key) for key in keys[keys != 0]} <= {*"hjklyubn>s \x1b\r", chr(0x80 | ord("q"))}


def test_a_player_with_its_own_loop_may_leave(folder: Path) -> None:
    (folder / "loop.py").write_text(
        "class Few:\n"
        "    def __init__(self, seed): pass\n"
        "    def play(self, observation, press):\n"
        "        for key in 'ss': observation = press(key)\n"
    )
    demonstrate(player="loop:Few", games=1, processes=1, output="few")
    (line,) = lines_of(folder / "few")
    assert line["env_steps"] == 3  # the last one quits
    assert line["end"] == "quit"


def test_a_player_that_fails_costs_its_game(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demonstrate(player="faulty:Failing", games=3, max_steps=20, processes=1, output="some")
    assert [line["seed"] for line in lines_of(folder / "some")] == [0, 2]
    assert sorted(path.name for path in (folder / "some").iterdir()) == ["games.jsonl", "nle_data"]
    said = " ".join(capsys.readouterr().err.split())
    assert "seed 1: the player failed (KeyError: 'sword' at" in said
    assert "faulty.py:9); its game is left out" in said


def test_where_all_fail_one_line_says_so(folder: Path) -> None:
    with pytest.raises(InputError, match="none of the 1 games came to its end"):
        demonstrate(player="faulty:Typing", games=1, max_steps=20, processes=1, output="none")


@pytest.mark.parametrize(
    ("player", "message"),
    [
        ("nowhere.bot:Bot", "ModuleNotFoundError: No module named 'nowhere'"),
        ("bot:Runner", "AttributeError: module 'bot' has no attribute 'Runner'"),
        ("faulty:Unmade", "no class with a method act or play"),
        ("random", "NetHack has demonstrator and expert, or your own as package.module:Class"),
    ],
)
def test_what_is_no_player_is_refused_at_once(player: str, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        demonstrate(player=player, games=1, output="out")
    assert "\n" not in str(error.value)
    assert not (folder / "out").exists()


def test_what_counts_as_a_key(folder: Path) -> None:
    south = key_to_action()[ord("j")]
    assert [action_of(key) for key in ("j", 106, nethack.CompassDirection.S)] == [south] * 3
    for wrong in ("", "jj", 7, -1, 256, None, True, "€"):
        with pytest.raises(PlayerError, match="none of the keys"):
            action_of(wrong)
    assert find_player("bot:Walker")(3) is not None
