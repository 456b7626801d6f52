"""Recorded games: layout, frames and keys, repeatability, restart after a kill, bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import chdir

import numpy as np
import psutil
import pytest
from nle.dataset import Converter
from nle.dataset.dataset import TtyrecDataset
from nle.dataset.db import create as create_db
from nle.dataset.populate_db import add_nledata_directory

from agent_scaling.envs.actions import action_to_key
from agent_scaling.playing.demonstrators.demonstrate import demonstrate, read_records
from agent_scaling.playing.demonstrators.games import GameSpec
from agent_scaling.playing.demonstrators.games import nethack as nethack_game
from agent_scaling.playing.demonstrators.nethack import NetHackDemonstrator
from agent_scaling.runtime.errors import InputError

STEPS = 150
GAMES = 2


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("games")
    demonstrate(games=GAMES, processes=2, max_steps=STEPS, output=str(root))
    return root


def keypresses(ttyrec, frames):
    """All keys of a ttyrec3, by nle's own converter."""
    room = frames + 10
    arrays = [
        np.zeros((room, 24, 80), np.uint8),
        np.zeros((room, 24, 80), np.int8),
        np.zeros((room, 2), np.int16),
        np.zeros(room, np.int64),
        np.zeros(room, np.uint8),
        np.zeros(room, np.int32),
    ]
    converter = Converter(24, 80, 3)
    converter.load_ttyrec(str(ttyrec))
    assert converter.convert(*arrays) == room - frames
    return arrays[4][:frames]


def test_layout(recorded):
    lines = [json.loads(line) for line in (recorded / "games.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    assert sorted(p.name for p in recorded.iterdir()) == ["games.jsonl", "nle_data"]
    for line, folder in zip(lines, sorted((recorded / "nle_data").iterdir()), strict=True):
        stem = f"nle.{line['seed']}"
        files = (f"{stem}.0.ttyrec3.bz2", f"{stem}.0.inventory.bz2", f"{stem}.xlogfile")
        expected = {"game.json", *files}
        assert {p.name for p in folder.iterdir()} == expected
        xlog = (folder / f"{stem}.xlogfile").read_text()
        assert f"ttyrecname={stem}.0.ttyrec3.bz2" in xlog
        assert f"death={line['end']}" in xlog
        assert 0 < line["env_steps"] <= STEPS
        assert line["frames"] >= line["env_steps"]


def test_nle_reads_the_recording(recorded, tmp_path):
    with chdir(tmp_path):
        create_db()
        add_nledata_directory(str(recorded / "nle_data"), "games")
        data = TtyrecDataset("games", batch_size=1, seq_length=50, shuffle=False)
        frames = {}
        for batch in data:
            for game in batch["gameids"][0]:
                frames[int(game)] = frames.get(int(game), 0) + 1
    frames.pop(0, None)  # padding
    records = read_records(recorded)
    assert sorted(frames.values()) == sorted(record.frames for record in records)


def test_recorded_keys_are_the_players_keys(recorded):
    """The same seed plays the same keys again, and the recording holds exactly these."""
    record = read_records(recorded)[0]
    player, pressed = NetHackDemonstrator(record.seed), []

    def act(obs):
        pressed.append(player.act(obs))
        return pressed[-1]

    spec = GameSpec(record.seed, record.options, record.max_steps, recorded)
    again = nethack_game.play_with(act, spec, record=False)
    assert (again.score, again.env_steps) == (record.score, record.env_steps)
    (ttyrec,) = (recorded / "nle_data" / "000000").glob("*.ttyrec3.bz2")
    recorded_keys = keypresses(ttyrec, record.frames)
    keys = action_to_key()[pressed]
    # NLE itself may press a key at the start and presses some at the end.
    starts = [i for i in range(3) if np.array_equal(recorded_keys[i : i + len(keys)], keys)]
    assert starts


def test_finished_games_are_not_played_again(recorded, capsys):
    before = {p: p.stat().st_mtime_ns for p in (recorded / "nle_data").rglob("*")}
    demonstrate(games=GAMES, processes=1, max_steps=STEPS, output=str(recorded))
    assert {p: p.stat().st_mtime_ns for p in (recorded / "nle_data").rglob("*")} == before
    assert "0 played now" in capsys.readouterr().out


def test_a_killed_run_leaves_whole_games_and_goes_on(tmp_path):
    root = tmp_path / "games"
    call = f"demonstrate(games=30, processes=1, max_steps=2000, output={str(root)!r})"
    code = f"from agent_scaling.playing.demonstrators.demonstrate import demonstrate; {call}"
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not list(root.glob("nle_data/*")):
        assert run.poll() is None
        time.sleep(0.02)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.wait()
    whole = read_records(root)
    for folder in (root / "nle_data").iterdir():
        kinds = sorted(path.name.split(".")[2:] for path in folder.glob("nle.*"))
        assert kinds == [["0", "inventory", "bz2"], ["0", "ttyrec3", "bz2"], ["xlogfile"]]
        assert (folder / "game.json").exists()
    _, alive = psutil.wait_procs(workers, timeout=600)  # orphaned, they notice and leave
    assert not alive
    games = len(whole) + 1
    demonstrate(games=games, processes=1, max_steps=2000, output=str(root))
    assert read_records(root)[: len(whole)] == whole
    assert len(read_records(root)) == games
    assert not list(root.glob(".partial*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"games": 0}, "games=0"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"processes": 0}, "processes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"game": "chess"}, "unknown game; known: atari, nethack"),
        ({"character": "plumber"}, "character=plumber"),
        ({"character": "val-elf"}, "NetHack has no such character"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        demonstrate(**({"games": 1, "output": str(tmp_path / "games")} | arguments))
    assert not (tmp_path / "games").exists()


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        demonstrate(games=1, output=str(tmp_path / "file" / "games"))


def test_output_with_other_settings(recorded):
    with pytest.raises(InputError, match=f"max_steps={STEPS}"):
        demonstrate(games=1, max_steps=STEPS + 1, output=str(recorded))
