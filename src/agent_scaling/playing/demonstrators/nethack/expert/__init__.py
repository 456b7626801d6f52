"""The scripted player for long games: the demonstrator's senses and moves, other tactics."""

from __future__ import annotations

from types import MappingProxyType

from agent_scaling.playing.demonstrators.nethack import behaviours, ranged
from agent_scaling.playing.demonstrators.nethack.expert import (
    arms,
    descent,
    prayer,
    provisions,
    refuge,
)
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.player import NetHackDemonstrator
from agent_scaling.playing.demonstrators.nethack.view import View

TACTICS: tuple[behaviours.Behaviour, ...] = (
    prayer.pray,
    refuge.flee,
    prayer.pray_in_despair,
    refuge.engrave,
    descent.dig_on,
    refuge.retreat_to_stairs,
    ranged.zap,
    arms.hold_a_narrow_place,
    arms.cast,
    ranged.throw,
    behaviours.fight,
    behaviours.wait_out,
    provisions.eat,
    arms.wield,
    refuge.await_on_stairs,
    refuge.stand,
    refuge.rest,
    provisions.pick_up,
    provisions.wear,
    arms.chase,
    descent.leave_branch,
    descent.dig_down,
    descent.seek_mines,
    descent.descend,
    behaviours.explore,
    descent.lie_in_wait,
    arms.clear_way,
    behaviours.kick_door,
    descent.take_risks,
    descent.search,
)
"""The expert's behaviours in order of priority."""

TITLES = {
    "Digger": "Archeologist", "Plunder": "Barbarian", "Troglodyte": "Caveman",
    "Rhizotomist": "Healer", "Gallant": "Knight", "Candidate": "Monk", "Aspirant": "Priest",
    "Tenderfoot": "Ranger", "Footpad": "Rogue", "Hatamoto": "Samurai", "Rambler": "Tourist",
    "Stripling": "Valkyrie", "Evoker": "Wizard",
}  # fmt: skip
"""Title that a beginner has in the status line → role."""


class NetHackExpert(NetHackDemonstrator):
    """Plays for experience first and depth second; deterministic like the demonstrator."""

    behaviours = TACTICS
    replies = MappingProxyType({"who are you?": "Croesus\r"})
    """The name at which a vault's guard goes away again."""

    def _observe(self, view: View) -> None:
        older = dict(self.corpses)
        super()._observe(view)
        # A kill on a corpse's place need not have left another one.
        self.corpses |= {place: older[place] for place in self.corpses if place in older}
        provisions.note_corpses(self, view)
        self.level.items |= provisions.armour_in(self.level)
        if not self.role:
            status = view.obs["tty_chars"][-2].tobytes().decode("latin-1")
            self.role = next((TITLES[title] for title in TITLES if title in status), "")

    def _keep_out(self, level: Level, view: View) -> None:
        """Keep out of shops, but never forget the way back."""
        super()._keep_out(level, view)
        level.forbidden &= ~(level.visited | level.corridors)
