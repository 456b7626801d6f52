"""What a file may say of its game: rules, no folders, nothing unknown."""

from __future__ import annotations

from typing import Any

import pytest

from agent_scaling.envs.families import NETHACK, Description, count_actions
from agent_scaling.envs.rules import game_from_file
from agent_scaling.runtime.errors import InputError


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("nethack", {"record_dir": "/tmp/x"}),
        ("nethack", {"character": "../x"}),
        ("nethack", {"max_episode_steps": 10**12}),
        ("nethack", {"level_seed": "3"}),
        ("nethack", {1: 2}),
        ("nle", {"task": "NetHackScore-v0", "savedir": "/tmp/x", "save_ttyrec_every": 1}),
        ("nle", {"task": "NetHackScore-v0", "options": ["playmode:debug"]}),
        ("nle", {"task": "/tmp/x:Task"}),
        ("minihack", {"task": "MiniHack-Room-5x5-v0", "des_file": "/etc/passwd"}),
        ("atari", {"env": "Breakout", "rom": "/tmp/x"}),
        ("atari", {"env": "Breakout", "frame_skip": 0}),
        ("os:system", {}),
    ],
)
def test_what_is_no_rule_is_refused(family: str, options: dict[Any, Any]) -> None:
    with pytest.raises(InputError, match="game"):
        game_from_file({"family": family, "options": options}, "there.ckpt")


@pytest.mark.parametrize(
    "value", ["nethack", ["nethack"], {"family": "nethack"}, {"family": 3, "options": {}}, 7]
)
def test_what_is_no_description_is_one_line(value: Any) -> None:
    with pytest.raises(InputError, match=r"there\.ckpt: its game cannot be believed"):
        game_from_file(value, "there.ckpt")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("nethack", {"character": "val-dwa-fem-law", "max_episode_steps": 5000, "idle_steps": 100}),
        ("nle", {"task": "NetHackStaircase-v0", "level_seed": 3, "penalty_step": -0.01}),
        ("minihack", {"task": "MiniHack-Room-5x5-v0", "max_episode_steps": 5}),
        ("atari", {"env": "Breakout", "sticky": 0.25, "max_episode_steps": None}),
    ],
)
def test_rules_are_taken(family: str, options: dict[str, Any]) -> None:
    game = {"family": family, "options": options}
    assert game_from_file(game, "there.ckpt").to_dict() == game
    assert game_from_file(None, "there.ckpt") == NETHACK


def test_versions_are_taken_and_make_no_other_game() -> None:
    game = {"family": "nethack", "options": {}, "versions": {"nethack": "3.6.6, 3.6.7", "nle": "1"}}
    found = game_from_file(game, "there.ckpt")
    assert found.to_dict() == game
    assert found == NETHACK


@pytest.mark.parametrize(
    "versions", [{"nle": "../1"}, {"nle": 1}, {"n/e": "1"}, ["1"], {str(n): "1" for n in range(11)}]
)
def test_versions_that_are_none_are_refused(versions: object) -> None:
    with pytest.raises(InputError, match="its game cannot be believed"):
        game_from_file({"family": "nethack", "options": {}, "versions": versions}, "there.ckpt")


@pytest.mark.parametrize(
    ("family", "option", "meant"),
    [("nethack", "charcter", "character"), ("atari", "frame_skp", "frame_skip"),
     ("minihack", "rewrd_win", "reward_win")],
)  # fmt: skip
def test_an_option_that_a_game_does_not_have_is_named_with_those_it_has(
    family: str, option: str, meant: str
) -> None:
    game = {"atari": {"env": "Breakout"}, "minihack": {"task": "MiniHack-Room-5x5-v0"}}
    line = (
        rf"game={family}: options\.{option}: no such option; did you mean {meant}\?; of: .*{meant}"
    )
    with pytest.raises(InputError, match=line):
        count_actions(Description(family, {**game.get(family, {}), option: 1}))
