"""Frames that NLE answered by itself are told from the player's, in games that NLE ends."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from nle import nethack  # noqa: F401  # registers the environments

from agent_scaling.sources.base import Game
from agent_scaling.sources.ttyrec import TtyrecSource

MOVES = [ord(key) for key in "hjklyubns"]
QUIT = 0x80 | ord("q")
CAP = 80


@pytest.fixture(scope="module")
def capped_games(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Several games in one directory, each quit by NLE at its step cap, and their steps."""
    root = tmp_path_factory.mktemp("capped")
    env = gymnasium.make(
        "NetHackChallenge-v0",
        savedir=str(root / "nle_data" / "game"),
        save_ttyrec_every=1,
        max_episode_steps=None,
    ).unwrapped
    env._max_episode_steps = CAP
    keys = [int(action) for action in env.actions]
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(4):
        env.reset()
        steps.append(0)
        done = False
        while not done:
            _, _, done, _, _ = env.step(keys.index(int(rng.choice(MOVES))))
            steps[-1] += 1
    env.close()
    return root, steps


def test_decisions_are_the_environments_steps(capped_games: tuple[Path, list[int]]) -> None:
    root, steps = capped_games
    source = TtyrecSource()
    games = source.discover(root).games
    assert len(games) == len(steps)
    for game, expected in zip(games, steps, strict=True):
        (frames,) = source.decode(root, game, 4096)
        begin = source.opening(game, frames)
        end = len(frames) - source.closing(game, frames)
        assert end - begin == expected
        assert set(frames.key[begin:end].tolist()) <= set(MOVES)
        if expected == CAP:
            # What NLE clears from the screen before it quits is its own, too.
            cleared = frames.key[end:].tolist().index(QUIT)
            assert set(frames.key[end : end + cleared].tolist()) <= {ord(" "), 27}


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
