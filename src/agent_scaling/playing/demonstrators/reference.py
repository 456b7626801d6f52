"""Plays reference players on the seeds and step cap of a policy's episodes, to compare returns."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from agent_scaling.playing.demonstrators.games import GameRecord, find_game
from agent_scaling.runtime.errors import InputError


def play_reference(
    player: str,
    seeds: Iterable[int],
    *,
    max_steps: int,
    family: str = "nethack",
    options: Mapping[str, Any] | None = None,
) -> list[GameRecord]:
    """Play one unrecorded game per seed, with all cores.

    Args:
        player: One of the family's ``PLAYERS``.
        seeds: Episode seeds.
        max_steps: Step cap of a game.
        family: ``nethack`` or ``atari``.
        options: Options of the game.

    Raises:
        InputError: The player is unknown.
    """
    game = find_game(family)
    if player not in game.PLAYERS:
        raise InputError(f"player {player!r} is unknown; use one of {', '.join(game.PLAYERS)}")
    context = multiprocessing.get_context("spawn")
    play = partial(game.play_unrecorded, player, max_steps=max_steps, **(options or {}))
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        return list(pool.map(play, seeds))
