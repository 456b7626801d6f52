"""Atari through the whole of it: shards, training, rollouts beside reference players, resume."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from agent_scaling.config.call import call_verb
from agent_scaling.playing.play import play
from agent_scaling.playing.players import find_policy
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.runs import composed
from tests.helpers.stores import new_store


def train(shards: Path, output: Path, *more: str) -> None:
    """A run of 20 windows."""
    overrides = [
        "experiment=atari_bc",
        f"data.shards={shards}",
        f"output={output}",
        f"logger.tracking_uri={new_store(output.parent / 'mlflow.db')}",
        f"logger.artifact_location={output.parent}/artifacts",
        "policy.encoder.width=1",
        "flops_budget=1.0e9",
        "data.lanes=4",
        "data.val_lanes=2",
        "callbacks.progress=null",
        "callbacks.model=null",
        "callbacks.rollouts.episodes=2",
        "callbacks.rollouts.max_episode_steps=20",
        "callbacks.rollouts.workers=1",
        "callbacks.rollouts.replays=false",
        *more,
    ]
    call_verb(composed("train", overrides))


def test_a_run_plays_its_own_game_beside_the_reference_players(
    atari_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(atari_shards, tmp_path / "run")
    shown = capsys.readouterr().out
    for row in ("policy", "uniformly random", "scripted demonstrator", "recorded games"):
        assert row in shown
    (table,) = [pd.read_parquet(path) for path in (tmp_path / "run" / "rollouts").glob("*.parquet")]
    assert list(table["env"]) == ["Breakout"] * 2
    assert list(table["steps"]) == [20, 20]

    policy = load_policy(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert policy.game.options["env"] == "Breakout"
    assert policy.num_actions == 4  # the data's: the config leaves it to them
    alone = play(policy, [0, 1], max_episode_steps=20, workers=2, lanes=2, block=16)
    again = play(policy, [1, 0], max_episode_steps=20, workers=1, lanes=1, block=16)
    assert alone.equals(again.iloc[::-1].reset_index(drop=True))
    assert alone.equals(table)


def test_a_resumed_run_has_the_weights_of_one_that_was_not_stopped(
    atari_shards: Path, tmp_path: Path
) -> None:
    quiet = ("callbacks.rollouts=null", "callbacks.held_out=null")
    train(atari_shards, tmp_path / "whole", *quiet)
    train(atari_shards, tmp_path / "parts", *quiet, "flops_budget=4.0e8")
    train(atari_shards, tmp_path / "parts", *quiet, "ckpt_path=last")
    whole, parts = (
        load_policy(tmp_path / name / "checkpoints" / "last.ckpt").state_dict()
        for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_number_of_actions_is_refused(atari_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set policy\.num_actions=4"):
        train(atari_shards, tmp_path / "run", "policy.num_actions=6")


def test_random_actions_need_the_games_name() -> None:
    policy = find_policy("random", None, "Pong", {"sticky": 0.0})
    assert policy.game.options == {"env": "Pong", "sticky": 0.0}
    table = play(policy, [5], max_episode_steps=10)
    assert (table["env"][0], table["steps"][0]) == ("Pong", 10)
    with pytest.raises(InputError, match="speed"):
        find_policy("random", "atari", "Pong", {"speed": 2})
