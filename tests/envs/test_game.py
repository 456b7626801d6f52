"""The game families: which one is meant, and under which options."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from agent_scaling.envs.families import (
    FAMILIES,
    NETHACK,
    Description,
    choose_game,
    count_actions,
    describe,
    find_game,
)
from agent_scaling.runtime.errors import InputError

ROOM = Description("minihack", {"task": "MiniHack-Room-5x5-v0", "max_episode_steps": 9})


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, NETHACK),
        ({"env": "Breakout"}, Description("atari", {"env": "Breakout"})),
        (
            {"env": "NetHackScore-v0"},
            Description("nle", {"task": "NetHackScore-v0"}),
        ),
        ({"own": ROOM}, ROOM),
        (
            {"own": ROOM, "env": "MiniHack-Corridor-R2-v0", "options": {"max_episode_steps": None}},
            Description("minihack", {"task": "MiniHack-Corridor-R2-v0", "max_episode_steps": 9}),
        ),
        ({"own": ROOM, "family": "nethack", "options": {"level_seed": 0}},
         Description("nethack", {"level_seed": 0})),
    ],
)  # fmt: skip
def test_the_game_that_is_meant(given: dict[str, Any], chosen: Description) -> None:
    own = given.pop("own", None)
    assert choose_game(own, **given) == chosen


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"family": "chess"}, "game=chess.*game=minihack env=MiniHack"),
        ({"family": "os:system"}, "game=os:system"),
        ({"family": "minihack"}, "env=.*MiniHack-Room"),
        ({"family": "minihack", "env": "Breakout"}, "env=Breakout.*game=atari"),
        ({"family": "nethack", "env": "Breakout"}, "env=Breakout"),
    ],
)
def test_what_is_no_game_is_refused_with_those_that_are(given: dict[str, str], named: str) -> None:
    with pytest.raises(InputError, match=named) as error:
        choose_game(None, **given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_checkpoint_cannot_have_anything_imported() -> None:
    with pytest.raises(InputError, match="game=os:system"):
        choose_game(Description("os:system", {}))


def test_games_are_described_by_their_families() -> None:
    task = "agent_scaling.envs.tasks:Task"
    for env, family in (("MiniHack-Room-5x5-v0", "minihack"), ("NetHackScore-v0", "nle")):
        assert describe(task, {"task": env}) == Description(family, {"task": env})
    assert describe("atari", {"env": "Pong"}).family == "atari"
    assert describe("tests.envs.toy_game:Toy", {}).family == "tests.envs.toy_game:Toy"


def test_actions_have_names_and_options_are_checked() -> None:
    examples = {name: f.variant and {f.variant: f.example} for name, f in FAMILIES.items()}
    for name, count in {"nethack": 121, "nle": 23, "minihack": 8, "atari": 4}.items():
        options: dict[str, Any] = examples[name] or {}
        assert count_actions(Description(name, options)) == count
        family: Any = find_game(name)
        assert len(family.action_names(**options)) == count
        assert callable(importlib.import_module(FAMILIES[name].viewer).show)
        with pytest.raises(InputError, match=f"game={name}: options.speed: no such option"):
            count_actions(Description(name, {**options, "speed": 2}))
        with pytest.raises(InputError, match=r"options\.max_episode_steps=-1: must be at least 1"):
            count_actions(Description(name, {**options, "max_episode_steps": -1}))
