"""The Atari games: frames as ALE's own vector environment has them, episodes by their seeds."""

from __future__ import annotations

import ale_py
import numpy as np
import pytest
from numpy.typing import NDArray

from agent_scaling.envs.atari import TWO_PLAYERS, Atari, action_codes, rom_name
from agent_scaling.envs.families import Description, Record, choose_game, describe
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.runtime.errors import InputError

ATARI = "agent_scaling.envs.atari:Atari"


def random_game(game: Atari, frame: NDArray[np.uint8], seed: int) -> tuple[NDArray, Record | None]:
    """The first frames of an episode under random actions, and its record if it has ended."""
    game.reset(seed)
    rng, frames, record = np.random.default_rng(0), [frame.copy()], None
    while record is None and len(frames) < 80:
        record = game.step(int(rng.integers(len(game.actions))))
        frames.append(frame.copy())
    return np.array(frames), record


@pytest.mark.parametrize("env", ["ms_pacman", "pong", "air_raid"])  # 210 rows, and 250
def test_frames_and_rewards_are_those_of_ales_vector_environment(env: str) -> None:
    theirs = ale_py.AtariVectorEnv(
        env, 1, num_threads=1, noop_max=0, use_fire_reset=False, stack_num=1, reward_clipping=False
    )
    shown, _ = theirs.reset(seed=1)
    views = {"frame": np.empty((84, 84), np.uint8), "reward": np.empty(1, np.float32)}
    ours = Atari(views, env=env, sticky=0.0, noop_max=0)
    ours.reset(0)
    rng, total = np.random.default_rng(2), 0.0
    for _ in range(120):
        assert np.array_equal(shown[0, 0], views["frame"])
        action = int(rng.integers(len(ours.actions)))
        shown, reward, *_ = theirs.step(np.array([action]))
        ours.step(action)
        assert reward[0] == views["reward"][0]
        total += abs(reward[0])
    assert total > 0


def test_an_episode_is_a_function_of_its_seed_and_actions() -> None:
    frame = np.empty((84, 84), np.uint8)
    used = Atari({"frame": frame}, env="Qbert")  # where a restored state alone is not whole
    first, _ = random_game(used, frame, seed=3)
    other, _ = random_game(used, frame, seed=4)
    again, _ = random_game(used, frame, seed=3)
    fresh, _ = random_game(Atari({"frame": frame}, env="Qbert"), frame, seed=3)
    assert np.array_equal(first, again)
    assert np.array_equal(first, fresh)
    assert not np.array_equal(first, other)


def test_actions_stick_as_often_as_asked() -> None:
    """A paddle that is told to go right and left in turn goes on where an action sticks."""
    game = Atari({}, env="Breakout", frame_skip=1, sticky=0.25, noop_max=0)
    game.reset(0)
    held = []
    for step in range(2000):
        game.step(2 + step % 2)
        held.append(game.held == game.actions[2 + step % 2])
    assert 0.77 < np.mean(held) < 0.83


def test_the_record_of_an_episode() -> None:
    score = np.empty(1, np.int32)
    game = Atari({"score": score}, env="Pong", max_episode_steps=150)
    game.reset(0)
    records = [game.step(0) for _ in range(150)]
    assert records[:-1] == [None] * 149
    (last,) = records[-1:]
    assert last is not None
    assert last["return"] == score[0] < 0
    assert (last["steps"], last["end"], last["env"]) == (150, "cap", "Pong")
    assert 600 < last["frames"] <= 630


def test_the_sets_of_actions() -> None:
    assert len(action_codes("Breakout")) == 4
    assert len(action_codes("Pong")) == 6
    assert action_codes("Breakout", full_actions=True) == tuple(range(18))


@pytest.mark.parametrize("env", ["Breakaut", "Joust"])
def test_a_game_that_ale_cannot_play_is_refused(env: str) -> None:
    with pytest.raises(InputError, match=f"env={env}"):
        rom_name(env)


def test_names_as_gymnasium_and_as_ale_writes_them() -> None:
    """Of every game: as gymnasium registers it, with and without a version, and as its ROM."""
    for rom in set(ale_py.roms.get_all_rom_ids()) - set(TWO_PLAYERS):
        name = rom.title().replace("_", "")
        ids = (f"ALE/{name}-v5", f"{name}NoFrameskip-v4", f"ALE/{name}", f"{name}-ram-v4")
        for env in (rom, name, name.lower(), *ids):
            assert rom_name(env) == rom, env


def test_a_module_before_a_name_and_a_family_for_a_game() -> None:
    assert choose_game(None, None, "ale_py:ALE/Pong-v5").options == {"env": "Pong"}
    assert choose_game(None, None, "nle:NetHackScore-v0").options == {"task": "NetHackScore-v0"}
    with pytest.raises(InputError, match="is a family of games"):
        choose_game(None, None, "NetHack")


def test_the_pool_plays_it() -> None:
    options = {"env": "Freeway", "max_episode_steps": 5}
    with Pool(ATARI, lanes=2, workers=1, groups=1, options=options, observations=["frame"]) as pool:
        pool.assign(0, 0)
        pool.assign(1, 0)
        ended = {}
        while len(ended) < 2:
            pool.send(0)
            ended |= dict(pool.receive(0).ended)
            assert np.array_equal(*pool.observations["frame"])
            pool.actions[:] = 1
    assert ended[0] == ended[1]


def test_an_episode_may_end_with_a_life() -> None:
    """The next one goes on in the same game; at its end the record is the whole game's."""
    views = {"frame": np.empty((84, 84), np.uint8), "lives": np.empty(1, np.int32)}
    game, rng = Atari(views, env="Breakout", life_loss=True), np.random.default_rng(0)
    ends: list[Record] = []
    game.reset(0)
    steps = 0
    while not ends or "return" not in ends[-1]:
        record = game.step(int(rng.integers(len(game.actions))))
        steps += 1
        if record is not None:
            ends.append(record)
            last = views["frame"].copy()
            game.reset(steps)
            assert np.array_equal(views["frame"], last) == (record == {"end": "life"})
    assert [end["end"] for end in ends] == ["life"] * 4 + ["over"]
    assert ends[-1]["steps"] == steps
    assert views["lives"][0] == 5


@pytest.mark.parametrize(
    "env",
    ["ALE/MsPacman-v5", "MsPacmanNoFrameskip-v4", "MsPacman-ram-v0", "ALE/MsPacman-ram-v5",
     "MsPacmanDeterministic-v4", "MsPacman-v4"],
)  # fmt: skip
def test_gymnasiums_names_of_a_game_are_taken(env: str) -> None:
    assert rom_name(env) == "ms_pacman"
    expected = Description("atari", {"env": "MsPacman"})  # what checkpoints keep of it
    assert choose_game(None, "atari", env) == choose_game(None, None, env) == expected
    assert describe(ATARI, {"env": env}) == expected
