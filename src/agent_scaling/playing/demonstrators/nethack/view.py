"""The parts of an NLE observation that decisions are taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from nle import nethack

Observation = Mapping[str, npt.NDArray[Any]]

KEYS = (
    "glyphs",
    "blstats",
    "message",
    "inv_letters",
    "inv_strs",
    "inv_oclasses",
    "tty_chars",
    "misc",
)
"""Observation keys that the player reads; all of them are among NetHackChallenge's."""

SATIATED, HUNGRY, WEAK = 0, 2, 3
"""Values of the hunger status (1 is not hungry)."""


@dataclass(frozen=True)
class Item:
    """One inventory line: its letter, NetHack's object class and its description."""

    letter: str
    oclass: int
    text: str


class View:
    """One observation, decoded: the status line's numbers, the message, prompts, inventory."""

    def __init__(self, obs: Observation) -> None:
        self.obs = obs
        bl = obs["blstats"].tolist()
        self.column, self.row = bl[nethack.NLE_BL_X], bl[nethack.NLE_BL_Y]
        self.hp, self.hp_max = bl[nethack.NLE_BL_HP], max(1, bl[nethack.NLE_BL_HPMAX])
        self.power = bl[nethack.NLE_BL_ENE]
        self.depth, self.turn = bl[nethack.NLE_BL_DEPTH], bl[nethack.NLE_BL_TIME]
        self.experience_level = bl[nethack.NLE_BL_XP]
        self.hunger = bl[nethack.NLE_BL_HUNGER]
        self.condition = bl[nethack.NLE_BL_CONDITION]
        self.place = (bl[nethack.NLE_BL_DNUM], bl[nethack.NLE_BL_DLEVEL])
        """(dungeon branch, level in it): 0 is the main dungeon, 2 the Gnomish Mines."""
        self.asks_key, self.asks_text, self.asks_space = (bool(x) for x in obs["misc"].tolist())

    @cached_property
    def message(self) -> str:
        """The message line's text."""
        return self.obs["message"].tobytes().split(b"\0", 1)[0].decode("latin-1")

    @cached_property
    def top_lines(self) -> str:
        """The first two terminal rows, where prompts stand."""
        return self.obs["tty_chars"][:2].tobytes().decode("latin-1")

    @property
    def in_trouble(self) -> bool:
        """HP so low that a god would help: at most a seventh of the maximum, or below 6."""
        return bool(self.hp < 6 or self.hp * 7 <= self.hp_max)

    @property
    def health(self) -> float:
        """HP as a fraction of the maximum."""
        return float(self.hp / self.hp_max)

    @property
    def load(self) -> int:
        """Encumbrance: 0 for none, 1 for burdened, … 5; from 3 on the player can hardly act."""
        return int(self.obs["blstats"][nethack.NLE_BL_CAP])

    def suffers(self, *masks: int) -> bool:
        """True where one of NLE's condition bits (``nethack.BL_MASK_…``) is set."""
        return any(self.condition & mask for mask in masks)

    @cached_property
    def inventory(self) -> list[Item]:
        """Items carried, in the order of the inventory."""
        letters, texts = self.obs["inv_letters"], self.obs["inv_strs"]
        count = int(np.count_nonzero(letters))
        return [
            Item(
                chr(int(letters[i])),
                int(self.obs["inv_oclasses"][i]),
                texts[i].tobytes().split(b"\0", 1)[0].decode("latin-1"),
            )
            for i in range(count)
        ]
