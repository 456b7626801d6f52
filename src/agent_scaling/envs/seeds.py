"""Derives NetHack's seeds and its stand-in for the wall clock from an episode's seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BIRTHDAYS = (1_000_000_000, 1_700_000_000)


@dataclass(frozen=True)
class Seeds:
    """The seeds of one episode of NetHack."""

    core: int
    display: int
    birthday: int
    """The player's birthday, in Unix time. It replaces the wall clock, from which NetHack derives
    shopkeepers' names and the prices of gems."""
    levels: int
    """Seed of level generation; levels are a function of this seed and the character."""


def game_seeds(seed: int) -> Seeds:
    """Derive the seeds of the episode ``seed``."""
    core, display, birthday, levels = (
        np.random.SeedSequence(seed).generate_state(4, np.uint32).tolist()
    )
    first, last = BIRTHDAYS
    return Seeds(core, display, first + birthday % (last - first), levels)
