"""Reference players on the same seeds and step cap: what a policy's return is held against."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from agent_scaling.demonstrators.games import GameRecord
from agent_scaling.demonstrators.games.nethack import PLAYERS, play_unrecorded
from agent_scaling.errors import InputError


def play_reference(
    player: str, seeds: Iterable[int], *, max_steps: int, character: str = "@"
) -> list[GameRecord]:
    """One unrecorded game per seed, played with all cores.

    Args:
        player: One of :data:`~agent_scaling.demonstrators.games.nethack.PLAYERS`.
        seeds: Episode seeds.
        max_steps: Step cap of a game.
        character: NetHack's ``role-race-gender-alignment``; ``@`` is random.

    Raises:
        InputError: The player is unknown.
    """
    if player not in PLAYERS:
        raise InputError(f"player {player!r} is unknown; use one of {', '.join(PLAYERS)}")
    context = multiprocessing.get_context("spawn")
    play = partial(play_unrecorded, player, character=character, max_steps=max_steps)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        return list(pool.map(play, seeds))
