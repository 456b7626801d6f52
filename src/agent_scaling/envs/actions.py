"""NetHack's 121 actions: maps between a recording's key and the policy's action index."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

KEYS = (
    107, 108, 106, 104, 117, 110, 98, 121, 75, 76, 74, 72, 85, 78, 66, 89, 60, 62, 46, 13, 35,
    191, 225, 193, 97, 24, 64, 67, 90, 227, 99, 195, 228, 100, 68, 101, 69, 229, 27, 70, 102,
    230, 59, 86, 105, 73, 233, 234, 4, 92, 96, 58, 236, 237, 109, 77, 239, 111, 79, 15, 112, 44,
    240, 80, 113, 241, 81, 114, 18, 82, 210, 242, 103, 71, 83, 115, 42, 34, 91, 36, 61, 43, 40,
    94, 41, 33, 243, 120, 84, 65, 20, 116, 212, 95, 244, 88, 245, 246, 118, 87, 38, 47, 119,
    247, 122, 43, 45, 32, 39, 34, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 36,
)  # fmt: skip
"""The key of each action: ``nle.nethack.ACTIONS``, so that policies do not need the game. Of these
keys, 118 are distinct."""

NUM_ACTIONS = len(KEYS)
"""Width of the policy's head."""

NO_ACTION = -100
"""Target that carries no loss (the default ``ignore_index`` of torch's cross-entropy)."""


@cache
def key_to_action() -> npt.NDArray[np.int64]:
    """Return the table [256] int64: key byte → action index, ``NO_ACTION`` outside the set.

    Three keys (34, 36 and 43) occur twice in ``nle.nethack.ACTIONS``; each maps to its first index.
    """
    table = np.full(256, NO_ACTION, dtype=np.int64)
    for index, key in reversed(list(enumerate(KEYS))):
        table[key] = index
    table.setflags(write=False)
    return table


@cache
def action_to_key() -> npt.NDArray[np.uint8]:
    """Return the table [121] uint8: action index → key byte."""
    table = np.array(KEYS, dtype=np.uint8)
    table.setflags(write=False)
    return table


def action_name(index: int) -> str:
    """Return an action's short name for tables and replays, as ``N`` of ``CompassDirection.N``."""
    from nle import nethack

    return str(nethack.ACTIONS[index].name)
