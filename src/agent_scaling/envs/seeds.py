"""From an episode's seed to everything that NetHack takes at random or from the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BIRTHDAYS = (1_000_000_000, 1_700_000_000)


@dataclass(frozen=True)
class Seeds:
    """What NetHack is seeded with."""

    core: int
    display: int
    birthday: int
    """The player's, Unix time: it stands for the wall clock, from which NetHack takes shopkeepers'
    names and the prices of gems."""
    levels: int
    """Of level generation: levels are a function of it and of the character."""


def game_seeds(seed: int) -> Seeds:
    """What the episode of ``seed`` is seeded with."""
    core, display, birthday, levels = (
        np.random.SeedSequence(seed).generate_state(4, np.uint32).tolist()
    )
    first, last = BIRTHDAYS
    return Seeds(core, display, first + birthday % (last - first), levels)
