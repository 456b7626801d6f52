"""A player's notes on its game beyond the levels: the god's temper, refuges, how it fares."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from agent_scaling.playing.demonstrators.nethack.view import View

Spot = tuple[tuple[int, int], int]
"""(branch, level in it), and a cell there."""

_ANGRY = re.compile(r"is displeased|Thou hast angered|Thou must relearn|You feel guilty\.\.\.")
"""Words of an angry god; three dots follow its unicorn's death, one dot a Monk's meal of meat."""

_INFECTED = re.compile("feel feverish|You turn into a were")


@dataclass(slots=True)
class Notes:
    """The expert's notes; :meth:`read` takes in what a new screen says."""

    forsaken: bool = False
    """The god is angry: no more prayers."""
    asked: bool = False
    """The player has asked for its attributes."""
    infected: bool = False
    """Lycanthropy, which a god cures."""
    resting: bool = False
    """The player rests until it is well, not only until it is no longer hurt."""
    tried_on: set[str] = field(default_factory=set)
    """Armour that the player has tried to put on."""
    taken_off: set[str] = field(default_factory=set)
    """Shields that the player has tried to take off."""
    welded: bool = False
    """A cursed weapon stays in the hand that is to dig."""
    held: dict[tuple[int, int], int] = field(default_factory=dict)
    """Place → decisions for which enemies were awaited on its stairs."""
    zapped_at: int = -1_000
    """Turn in which the player last zapped a wand."""
    wielded_at: int = -1_000
    """Turn in which the player last tried to take a weapon in hand."""
    climbs: dict[tuple[int, int], int] = field(default_factory=dict)
    """Place → times that its stairs up were taken to go back to the Mines."""
    lost: bool = False
    """The main dungeon goes on behind what could not be found: the Mines are the way down."""
    pit: Spot | None = None
    """Where a pit was dug last."""
    refuge: Spot | None = None
    """Where ``Elbereth`` was written last."""
    unread: Spot | None = None
    """Where it was written and has not been read over."""
    refuge_hp: int = 0
    """HP when it was last seen to hold."""
    refuge_turn: int = 0
    """Turn in which it was written."""
    refuge_tries: int = 0
    """Times that it was written in the fight at hand."""
    since: dict[tuple[int, int], int] = field(default_factory=dict)
    """Place → turn of the first visit, or of the last experience level gained if that is later."""
    experience_level: int = 1

    def read(self, view: View) -> None:
        """Take in a screen on which the player is to decide."""
        if _ANGRY.search(view.message):
            self.forsaken = True
        if _INFECTED.search(view.message):
            self.infected = True
        elif "You feel purified" in view.message:
            self.infected = False
        if "welded to your" in view.message:
            self.welded = True
        if "can't write on" in view.message:  # a fountain, an altar
            self.refuge, self.refuge_tries = None, 99
        if view.experience_level > self.experience_level:
            self.since.clear()
        self.experience_level = view.experience_level
        self.since.setdefault(view.place, view.turn)
