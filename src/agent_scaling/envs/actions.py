"""NetHack's 121 actions: maps between a recording's key and the policy's action index."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from nle import nethack

NUM_ACTIONS = 121
"""Width of the policy's head: ``len(nle.nethack.ACTIONS)``, of which 118 keys are distinct."""

NO_ACTION = -100
"""Target that carries no loss (the default ``ignore_index`` of torch's cross-entropy)."""


@cache
def key_to_action() -> npt.NDArray[np.int64]:
    """Return the table [256] int64: key byte → action index, ``NO_ACTION`` outside the set.

    Three keys (34, 36 and 43) occur twice in ``nle.nethack.ACTIONS``; each maps to its first index.
    """
    table = np.full(256, NO_ACTION, dtype=np.int64)
    for index, key in reversed(list(enumerate(nethack.ACTIONS))):
        table[int(key)] = index
    table.setflags(write=False)
    return table


@cache
def action_to_key() -> npt.NDArray[np.uint8]:
    """Return the table [121] uint8: action index → key byte."""
    table = np.array([int(key) for key in nethack.ACTIONS], dtype=np.uint8)
    table.setflags(write=False)
    return table


def action_name(index: int) -> str:
    """Return an action's short name for tables and replays, as ``N`` of ``CompassDirection.N``."""
    return str(nethack.ACTIONS[index].name)
