from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_scaling.cli.doctor import games
from agent_scaling.cli.doctor.findings import OK, WARNING, Asked
from agent_scaling.envs import goldens


def test_every_recorded_game_is_played_again_observation_by_observation() -> None:
    """In a process of its own, as games' workers are."""
    command = [sys.executable, "-m", "agent_scaling.envs.goldens"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "30 of 30 games as recorded\n", done.stdout + done.stderr
    assert done.returncode == 0


def test_what_is_recorded_is_what_is_listed() -> None:
    _, games = goldens.recorded()
    listed = [(game.family, game.options, game.seed) for game in goldens.games()]
    assert [(game.family, game.options, game.seed) for game in games] == listed
    assert {len(game.whole) for game in games} == {len(game.first) for game in games} == {64}
    assert len({game.whole for game in games}) == len(games)


def test_another_game_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit of one observation, a step's key, another seed: any of them is another digest."""
    kept = json.loads(goldens.FILE.read_text())
    kept["games"] = kept["games"][:2]
    kept["games"][1]["seed"] += 1
    monkeypatch.setattr(goldens, "FILE", tmp_path / "goldens.json")
    goldens.FILE.write_text(json.dumps(kept))
    found = list(goldens.differences(("nethack",), goldens.FIRST))
    assert [str(game) for game in found] == ["nethack bar seed 2"]


@pytest.mark.parametrize(
    ("status", "line", "expected"),
    [(0, "30 of 30 games as recorded", OK), (1, "7 of 30 games as recorded", WARNING)],
)
def test_the_doctor_says_whether_seeds_give_the_same_games(
    status: int, line: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], status, f"another game: x\n{line}\n", "")

    monkeypatch.setattr(games.subprocess, "run", answer)
    found = games.recorded(Asked())
    assert found.status == expected
    assert line in found.text
    assert f"nle {goldens.installed()['nle']}" in found.text
    if expected == WARNING:
        assert "nle==1.3.0" in found.fix
