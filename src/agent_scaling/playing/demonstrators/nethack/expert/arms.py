"""Weapons: taking one in hand, and going for enemies that are worth it."""

from __future__ import annotations

import re

from agent_scaling.playing.demonstrators.nethack import behaviours, ranged
from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert.refuge import indices
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import WEAK, View
from agent_scaling.playing.demonstrators.pathfinding import Cells, around, path, step

GAS_SPORE = next(i for i in range(g.MONSTERS) if g.monster_name(i) == "gas spore")
WEAPON_CLASS, GEM_CLASS, TOOL_CLASS = 2, 13, 6
THROWN_FIRST = {WEAPON_CLASS: 0, GEM_CLASS: 1, TOOL_CLASS: 2}
"""NetHack's class of objects → its rank among those thrown in need."""
WIELD_AGAIN = 50
"""Turns after which it is tried again: not every shape has hands."""
RETREAT = 3
"""Steps to a narrow place that are worth it in a fight."""
_IN_USE = re.compile(
    r"in (right |left )?hands?\)|\(being worn|\(wielded|pick-axe|mattock|broad pick"
)
_IN_HAND = re.compile(
    r"\((weapon|weapons|tethered weapon|wielded)\b.*in (hand|hands)|\(weapon in|\(wielded"
)
_WHIP = re.compile(r"bullwhip \(weapon in hand")
_BEST = (
    "katana", "long sword", "two-handed sword", "battle-axe", "broadsword", "dwarvish mattock",
    "axe", "morning star", "scimitar", "short sword", "crysknife", "mace", "spear", "trident",
    "lance", "pick-axe", "club", "quarterstaff", "dagger", "scalpel", "knife",
)  # fmt: skip


def wield(player: Memory, view: View, level: Level) -> Choice | None:
    """Take a weapon in hand: instead of a whip, or after losing hold of it as a werecreature."""
    notes = player.notes
    if (
        player.role == "Monk"
        or view.turn < notes.wielded_at + WIELD_AGAIN
        or any(
            _IN_HAND.search(item.text) and not _WHIP.search(item.text) for item in view.inventory
        )
    ):
        return None
    for name in _BEST:
        for item in view.inventory:
            if name in item.text and "cursed" not in item.text.replace("uncursed", ""):
                notes.wielded_at = view.turn
                return Choice("w", {"want to wield": item.letter})
    return None


def chase(player: Memory, view: View, level: Level) -> Choice | None:
    """Go for enemies a few steps away, but let them come to one who lies in wait on stairs."""
    if 1 << level.here & (level.stairs_up | level.stairs_down) and level.steps > 300:
        return None
    return behaviours.chase(player, view, level)


def cast(player: Memory, view: View, level: Level) -> Choice | None:
    """Cast force bolt unless too hungry for it."""
    return ranged.cast(player, view, level) if view.hunger < WEAK else None


def clear_way(player: Memory, view: View, level: Level) -> Choice | None:
    """Throw at what blocks the way and harms those who touch it: in need, all that is spare."""
    if any(level.glyph_at(place) == GAS_SPORE for place in player.neighbours(level.passive)):
        return None  # it explodes
    if choice := behaviours.clear_way(player, view, level):
        return choice
    aim = ranged.direction_to(level, level.passive, 2)
    spare = [item for item in view.inventory if not _IN_USE.search(item.text)]
    if aim is None or not spare:
        return None
    item = min(spare, key=lambda item: THROWN_FIRST.get(item.oclass, len(THROWN_FIRST)))
    return Choice("t", {"want to throw": item.letter, "direction": aim[0]}, target=aim[1])


def hold_a_narrow_place(player: Memory, view: View, level: Level) -> Choice | None:
    """Step back from several enemies into a corridor or a doorway a few steps away."""
    enemies = level.monsters & level.walkable
    if (around(1 << level.here) & enemies).bit_count() < 2 or enemies.bit_count() < 3:
        return None
    free = level.walkable & ~enemies
    if _is_narrow(level, level.here):
        return None
    near = _within(level.here, free, level.doors, RETREAT)
    narrow = sum(1 << place for place in indices(near) if _is_narrow(level, place))
    way = path(level.here, narrow, free | 1 << level.here, level.doors) if narrow else None
    return player.go(way[1]) if way and len(way) > 1 else None


def _within(start: int, walkable: Cells, doors: Cells, steps: int) -> Cells:
    """Return the cells that lie at most ``steps`` moves away."""
    found = 1 << start
    for _ in range(steps):
        found |= step(found, doors) & walkable
    return found & ~(1 << start)


def _is_narrow(level: Level, place: int) -> bool:
    """Return True for a cell that at most two others lead to."""
    return (step(1 << place, level.doors) & level.walkable).bit_count() <= 2
