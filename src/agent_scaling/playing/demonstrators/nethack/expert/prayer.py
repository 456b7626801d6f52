"""Praying, by the rule of NetHack's prayer timeout.

A prayer sets the timeout to a random number: half of the time below 350, in seven of eight cases
below 700. Each turn lowers it by one. A god helps in great need while it is at most 200.
"""

from __future__ import annotations

from nle import nethack

from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import WEAK, View
from agent_scaling.playing.demonstrators.pathfinding import around

FIRST = 102
"""The turn from which a first prayer helps: the timeout of 300 is 201 in turn 100."""
DYING, WEAK_FROM_HUNGER, FAINTING, LYCANTHROPE, ILL = 500, 750, 400, 700, 200
"""Turns since the last prayer after which each need is prayed about."""
WELDED = 1_000
"""The same, for a small need: a cursed weapon in hand."""
LAST_RESORT = 300
"""The same, for one who would die in the next turns without help."""
FAINTING_STATUS = 4
_DEADLY = (
    nethack.BL_MASK_FOODPOIS,
    nethack.BL_MASK_TERMILL,
    nethack.BL_MASK_STONE,
    nethack.BL_MASK_SLIME,
    nethack.BL_MASK_STRNGL,
)


def since(player: Memory, view: View) -> int:
    """Return the turns since the last prayer, a game's start counting as one 400 turns ago."""
    last = player.prayed_at if player.prayed_at is not None else FIRST - DYING
    return int(view.turn - last)


def may_pray(player: Memory, view: View) -> bool:
    """Return True where a dying player would probably be helped."""
    return not player.notes.forsaken and since(player, view) >= DYING


def pray(player: Memory, view: View, level: Level) -> Choice | None:
    """Pray when dying, weak from hunger or a werecreature, if the last prayer is long ago."""
    if player.notes.forsaken or (need := _patience(player, view)) is None:
        return None
    return _prayer(player, view) if since(player, view) >= need else None


def pray_in_despair(player: Memory, view: View, level: Level) -> Choice | None:
    """Pray a little early rather than die to the enemy beside."""
    if player.notes.forsaken or not view.in_trouble or view.turn < FIRST:
        return None
    if since(player, view) < LAST_RESORT:
        return None
    return _prayer(player, view) if around(1 << level.here) & level.monsters else None


def _patience(player: Memory, view: View) -> int | None:
    """Return the turns since the last prayer that the present need waits for, if there is one."""
    needs = [
        (view.in_trouble, DYING),
        (view.hunger >= FAINTING_STATUS, FAINTING),
        (view.hunger >= WEAK, WEAK_FROM_HUNGER),
        (player.notes.infected, LYCANTHROPE),
        (player.notes.welded, WELDED),
        (view.suffers(*_DEADLY), ILL),
    ]
    return min((patience for there, patience in needs if there), default=None)


def _prayer(player: Memory, view: View) -> Choice:
    player.prayed_at = view.turn
    player.notes.infected = player.notes.welded = False
    return Choice("\xf0", {"want to pray": "y"})
