"""Atari's demonstrations: experts that play well, games that come back frame by frame."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.recordings.atari import AtariSource
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import EvalLanes
from agent_scaling.envs.atari import Atari, action_names, rom_name
from agent_scaling.playing.demonstrators.atari import EXPERTS
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from agent_scaling.playing.demonstrators.games.atari import make_options, play_unrecorded
from agent_scaling.runtime.errors import InputError


def mean_score(player: str, env: str, lowest: int, max_steps: int) -> float:
    """Above the lowest possible score, over two seeds."""
    options = make_options(env=env, player=player)
    games = [play_unrecorded(seed=seed, max_steps=max_steps, **options) for seed in range(2)]
    return float(np.mean([game.score - lowest for game in games]))


# Random players lose whole games of Breakout in 200 steps, of Pong in 1,000.
@pytest.mark.parametrize(
    ("env", "lowest", "steps"), [("Breakout", 0, 250), ("Pong", -21, 1000), ("Freeway", 0, 200)]
)
def test_experts_score_five_times_what_random_actions_do(env: str, lowest: int, steps: int) -> None:
    expert = mean_score("demonstrator", env, lowest, steps)
    assert expert > 0
    assert expert >= 5 * mean_score("random", env, lowest, steps)


@pytest.mark.parametrize("env", ["Breakout", "Pong"])
def test_an_expert_acts_on_what_two_frames_show_and_stands_still(env: str) -> None:
    console = Atari({}, env=env)
    names = action_names(console.actions)
    expert, before = EXPERTS[rom_name(env)](), None
    console.reset(3)
    taken = []
    for _ in range(400):
        memory = console.memory().copy()
        taken.append(expert.act(memory))
        if before is not None:
            newcomer = EXPERTS[rom_name(env)]()
            newcomer.act(before)
            assert newcomer.act(memory) == taken[-1]
        before = memory
        if console.step(names.index(taken[-1])):
            break
    opposite = {("LEFT", "RIGHT"), ("RIGHT", "LEFT")}
    presses = sum(action in ("LEFT", "RIGHT") for action in taken)
    assert presses > 50
    assert sum(pair in opposite for pair in pairwise(taken)) < presses / 10


def test_recorded_games_come_back_frame_by_frame(atari_games: Path, atari_shards: Path) -> None:
    record = json.loads((atari_games / "games" / "000001" / "game.json").read_text())
    codes = np.load(atari_games / "games" / "000001" / "actions.npy")
    frame = np.empty((84, 84), np.uint8)
    console = Atari({"frame": frame}, env="Breakout")
    console.reset(1)
    frames, scores = [], []
    for code in codes.tolist():
        frames.append(frame.copy())
        scores.append(console.score)
        console.step(console.actions.index(code))
    assert console.score == record["score"]

    for split in ("train", "val"):
        reader = ShardReader(atari_shards, split)
        (found,) = [i for i, game in enumerate(reader.games) if game.id.endswith("000001")] or [-1]
        if found < 0:
            continue
        order = EvalLanes([game.frames for game in reader.games], 1)
        windows = WindowLoader(
            reader, order, range(1), 32, end_step=order.steps(32), scores=True, games=True
        )
        seen = []
        for batch in windows:
            mine = (batch.game_TB == found)[:, 0]
            assert batch.frame_TBHW is not None
            assert batch.score_TB is not None
            columns = (batch.frame_TBHW, batch.action_TB, batch.prev_action_TB, batch.score_TB)
            seen.append([column[mine][:, 0].numpy().copy() for column in columns])
        shown, action, previous, score = (np.concatenate(part) for part in zip(*seen, strict=True))
        assert np.array_equal(shown, frames)
        assert np.array_equal(np.array(console.actions)[action], codes)
        assert np.array_equal(previous, [0, *action[:-1]])
        assert np.array_equal(score, scores)
        return
    raise AssertionError("the game is in no split")


def test_a_recording_of_another_console_is_left_out(atari_games: Path, tmp_path: Path) -> None:
    for seed, gained in (("000000", 0), ("000001", 7)):
        folder = tmp_path / "games" / seed
        folder.mkdir(parents=True)
        record = json.loads((atari_games / "games" / seed / "game.json").read_text())
        record["score"] += gained
        (folder / "game.json").write_text(json.dumps(record))
        (folder / "actions.npy").symlink_to(atari_games / "games" / seed / "actions.npy")
    made = shard(
        input=str(tmp_path), output=str(tmp_path / "shards"), source=AtariSource(), processes=1
    )
    assert sum(total.games for total in made.totals.values()) == 1
    assert "another ALE" in made.skipped[0]["reason"]


def test_games_under_different_options_are_refused(atari_games: Path, tmp_path: Path) -> None:
    for seed, sticky in (("000000", 0.25), ("000001", 0.0)):
        (tmp_path / seed).mkdir()
        record = json.loads((atari_games / "games" / seed / "game.json").read_text())
        record["options"]["sticky"] = sticky
        (tmp_path / seed / "game.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="sticky"):
        AtariSource().discover(tmp_path)


def test_more_games_under_other_options_are_refused(atari_games: Path) -> None:
    with pytest.raises(InputError, match=r"sticky=0\.25"):
        demonstrate(
            game="atari", env="Breakout", options={"sticky": 0.0}, max_steps=300,
            games=5, output=str(atari_games),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "env="),
        ({"env": "Breakaut"}, "env=Breakaut"),
        ({"env": "Qbert"}, "no scripted expert"),
        ({"env": "Pong", "player": "nobody"}, "player=nobody"),
        ({"env": "Pong", "frameskip": 3}, "options.frameskip"),
        ({"env": "Pong", "sticky": 1.0}, "sticky=1.0"),
    ],
)
def test_bad_options_are_refused(given: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        make_options(**given)  # type: ignore[arg-type]
