"""Split and order are functions of the games' identities; filters read their metadata."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.data.conversion.plan import (
    check_filters,
    cut_shards,
    passes,
    sample_key,
    split_games,
)
from agent_scaling.data.recordings.base import Game
from agent_scaling.runtime.errors import InputError


def make_game(name: str, **metadata: str | int) -> Game:
    return Game(name, (f"{name}.ttyrec3.bz2",), (100,), 3, metadata)


GAMES = [make_game(f"d{i}/nle.{i}.0") for i in range(400)]


def test_the_split_does_not_depend_on_the_order_of_files() -> None:
    shuffled = GAMES.copy()
    random.Random(0).shuffle(shuffled)
    assert split_games(GAMES, 0.1, "") == split_games(shuffled, 0.1, "")


def test_more_games_move_no_game_to_the_other_side() -> None:
    few, many = (split_games(games, 0.1, "") for games in (GAMES[:200], GAMES))
    for side in ("train", "val"):
        assert [game for game in many[side] if game in few[side]] == list(few[side])
    assert 20 <= len(many["val"]) <= 60


def test_another_salt_is_another_split() -> None:
    assert split_games(GAMES, 0.1, "")["val"] != split_games(GAMES, 0.1, "b")["val"]


@given(count=st.integers(2, 6), fraction=st.floats(0.01, 0.99), salt=st.text(max_size=5))
def test_neither_side_is_empty(count: int, fraction: float, salt: str) -> None:
    split = split_games(GAMES[:count], fraction, salt)
    assert split["train"]
    assert split["val"]
    assert sorted(g.identity for side in split.values() for g in side) == sorted(
        g.identity for g in GAMES[:count]
    )


def test_a_lone_game_is_for_training_and_nothing_is_held_out_on_request() -> None:
    assert split_games(GAMES[:1], 0.1, "")["train"] == tuple(GAMES[:1])
    assert not split_games(GAMES, 0.0, "")["val"]


def test_shards_hold_all_games_in_order() -> None:
    shards = cut_shards("train", GAMES, 1050)
    assert [game for shard in shards for game in shard.games] == GAMES
    assert {len(shard.games) for shard in shards[:-1]} == {11}
    assert [shard.name for shard in shards[:2]] == ["train-00000", "train-00001"]


def test_filters() -> None:
    game = make_game("a", role="Val", align="Law", points=1000, maxlvl=4, death="killed by a newt")
    for yes in (
        {},
        {"role": "Val"},
        {"role": ["Sam", "val"]},
        {"alignment": "Law"},
        {"min_score": 1000, "max_points": 1000},
        {"min_depth": 4},
        {"death": "newt$"},
    ):
        assert passes(game, yes), yes
    for no in (
        {"role": "Sam"},
        {"role": "Val", "min_points": 1001},
        {"max_depth": 3},
        {"death": "^newt"},
        {"min_turns": 0},
    ):
        assert not passes(game, no), no


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"rank": "Val"}, "unknown filter"),
        ({"min_points": "many"}, "must be a number"),
        ({"min_luck": 1}, "no game has luck"),
        ({"death": "("}, "filters.death"),
    ],
)
def test_filters_that_cannot_be_meant(filters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_filters(filters, [make_game("a", points=1, death="x")])


def test_sample_keys_have_no_dot() -> None:
    assert sample_key("20261121-015305_vp1lhu35/nle.1.0") == "20261121-015305_vp1lhu35_nle_1_0"
