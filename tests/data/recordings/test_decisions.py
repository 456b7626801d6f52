"""Frames that NLE answered by itself are told from the player's, in games that NLE ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from nle.env.base import NLE

from agent_scaling.data.recordings.base import Game, RawFrames
from agent_scaling.data.recordings.ttyrec import TtyrecSource

MOVES = [ord(key) for key in "hjklyubns"]
QUIT = 0x80 | ord("q")
CAP = 80
DIES_AT_THE_CAP = 1529
"""Seed of a game that waits at a ``--More--`` with the death behind it when the cap is reached."""

Games = Callable[[Sequence[int]], tuple[Path, list[int]]]


@pytest.fixture
def capped_games(tmp_path: Path) -> Games:
    """Plays the games of these seeds into one directory, each to NLE's step cap at most; returns
    the directory and each game's number of steps."""

    def play(seeds: Sequence[int]) -> tuple[Path, list[int]]:
        env = gymnasium.make(
            "NetHackChallenge-v0",
            savedir=str(tmp_path / "nle_data" / "game"),
            save_ttyrec_every=1,
            max_episode_steps=None,
            fix_moon_phase=True,
        ).unwrapped
        env._max_episode_steps = CAP
        del env.nethack.set_initial_seeds  # Challenge's own, which refuses
        keys = [int(action) for action in env.actions]
        steps = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            NLE.seed(env, core=seed, disp=seed, reseed=False, lgen=seed)
            env.reset()
            steps.append(0)
            done = False
            while not done:
                _, _, done, _, _ = env.step(keys.index(int(rng.choice(MOVES))))
                steps[-1] += 1
        env.close()
        return tmp_path, steps

    return play


def decisions(root: Path) -> Iterator[tuple[RawFrames, int, int]]:
    """Each game's frames, the first that the player answered and the first after the last one."""
    source = TtyrecSource()
    for game in source.discover(root).games:
        (frames,) = source.decode(root, game, 4096)
        yield frames, source.opening(game, frames), len(frames) - source.closing(game, frames)


def test_decisions_are_the_environments_steps(capped_games: Games) -> None:
    root, steps = capped_games(range(8))
    assert steps.count(CAP) >= 4
    for (frames, begin, end), expected in zip(decisions(root), steps, strict=True):
        assert end - begin == expected
        assert set(frames.key[begin:end].tolist()) <= set(MOVES)
        if expected == CAP:
            # What NLE clears from the screen before it quits is its own, too.
            cleared = frames.key[end:].tolist().index(QUIT)
            assert set(frames.key[end : end + cleared].tolist()) <= {ord(" "), 27}


def test_a_death_that_the_quit_uncovers_costs_one_key(capped_games: Games) -> None:
    """At the cap a ``--More--`` hides the death; the SPACE that clears it could be a player's."""
    root, steps = capped_games([DIES_AT_THE_CAP])
    ((frames, begin, end),) = decisions(root)
    assert steps == [CAP]
    assert QUIT not in frames.key
    assert end - begin == CAP + 1
    assert frames.key[end - 1] == ord(" ")


def test_a_players_own_quit_is_a_decision(reference: Path) -> None:
    """The fixture's player types ``#quit`` and answers ``y``; then seven SPACEs are NLE's."""
    source = TtyrecSource()
    game = Game("x", ("nle.2783801.0.ttyrec3.bz2",), (1,), 3)
    (frames,) = source.decode(reference / "reference" / "nle", game, 4096)
    assert source.opening(game, frames) == 0
    assert source.closing(game, frames) == 7


def test_a_recording_that_stops_early_ends_with_decisions(reference: Path) -> None:
    source = TtyrecSource()
    game = Game("x", ("nle.2783801.0.ttyrec3.bz2",), (1,), 3)
    (frames,) = source.decode(reference / "reference" / "nle", game, 4096)
    cut = frames[:50]
    assert source.closing(game, cut) == 0
