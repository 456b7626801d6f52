"""The scripted player for long games: the demonstrator's senses and moves, other tactics."""

from __future__ import annotations

from agent_scaling.playing.demonstrators.nethack import behaviours, ranged
from agent_scaling.playing.demonstrators.nethack.expert import (
    arms,
    descent,
    dive,
    identity,
    mining,
    prayer,
    provisions,
    refuge,
)
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.player import ESCAPE, NetHackDemonstrator
from agent_scaling.playing.demonstrators.nethack.view import View

TACTICS: tuple[behaviours.Behaviour, ...] = (
    identity.ask,
    prayer.pray,
    refuge.flee,
    prayer.pray_in_despair,
    arms.cut_free,
    arms.free_hands,
    dive.dive,
    refuge.engrave,
    refuge.retreat_to_stairs,
    arms.zap,
    arms.hold_a_narrow_place,
    arms.cast,
    ranged.throw,
    behaviours.fight,
    behaviours.wait_out,
    provisions.eat,
    arms.wield,
    provisions.fetch,
    refuge.await_on_stairs,
    refuge.stand,
    refuge.rest,
    provisions.pick_up,
    provisions.wear,
    arms.chase,
    mining.leave_branch,
    descent.dig_down,
    mining.seek_mines,
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
    """Plays for a pick-axe and then for depth; deterministic like the demonstrator."""

    behaviours = TACTICS

    def reset(self) -> None:
        """Forget everything: a new game begins."""
        super().reset()
        self.replies = {
            "who are you?": "Croesus\r",  # the name at which a vault's guard goes away again
            "Really attack the peaceful dwarf": self._rob,
        }

    def _observe(self, view: View) -> None:
        older = dict(self.corpses)
        super()._observe(view)
        # A kill on a corpse's place need not have left another one.
        self.corpses |= {place: older[place] for place in self.corpses if place in older}
        provisions.note_corpses(self, view)
        provisions.note_items(self.level)
        dive.note_hard(view, self.level)
        if not self.role:
            status = view.obs["tty_chars"][-2].tobytes().decode("latin-1")
            self.role = next((TITLES[title] for title in TITLES if title in status), "")

    def _read_message(self, view: View) -> None:
        super()._read_message(view)
        identity.read(self, view)
        dive.note_pit(self, view, self.level)
        refuge.note_word(self, view, self.level)
        if "zombie" in view.message or "mummy" in view.message:
            self._killed = None  # their corpses are old
        if self._killed is not None:
            provisions.note_kill(self.level, *self._killed)

    def _rob(self, view: View) -> str:
        """Attack a peaceful dwarf for its pick-axe if need be, which no god forgives."""
        if not mining.robs(self, view):
            return ESCAPE
        self.notes.forsaken = True
        if self._choice.target is not None:
            self.level.peaceful.pop(self.level.glyph_at(self._choice.target), None)
        return "y"

    def _keep_out(self, level: Level, view: View) -> None:
        """Keep out of shops, but never forget the way back."""
        there = self.levels.setdefault(view.place, Level())
        there.shop = True
        if there is not level:  # the player has come through the ceiling
            return
        super()._keep_out(level, view)
        level.forbidden &= ~(level.visited | level.corridors)
