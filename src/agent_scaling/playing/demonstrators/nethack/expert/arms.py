"""Weapons: taking one in hand, and going for enemies that are worth it."""

from __future__ import annotations

import re

from agent_scaling.playing.demonstrators.nethack import behaviours, ranged
from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.behaviours import digger
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert import refuge
from agent_scaling.playing.demonstrators.nethack.expert.refuge import indices
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import WEAK, View
from agent_scaling.playing.demonstrators.pathfinding import Cells, around, path, step

GAS_SPORE = next(i for i in range(g.MONSTERS) if g.monster_name(i) == "gas spore")
EXPLOSION = 24
"""HP that a gas spore's explosion takes at most."""
EYE = next(i for i in range(g.MONSTERS) if g.monster_name(i) == "floating eye")
STRIKE_ABOVE, STRIKE_AFTER = 0.9, 500
"""Health and decisions on a level from which a floating eye in the way is hit by hand."""
WEAPON_CLASS, GEM_CLASS, TOOL_CLASS = 2, 13, 6
THROWN_FIRST = {WEAPON_CLASS: 0, GEM_CLASS: 1, TOOL_CLASS: 2}
"""NetHack's class of objects → its rank among those thrown in need."""
ZAP_AGAIN = 8
"""Turns from one zap to the next."""
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
_TWO_HANDED = re.compile("mattock|broad pick")
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


def cut_free(player: Memory, view: View, level: Level) -> Choice | None:
    """Hit what has swallowed the player: it lies in every direction."""
    return Choice("Fh") if refuge.is_swallowed(level) else None


def free_hands(player: Memory, view: View, level: Level) -> Choice | None:
    """Take off the shield, once, for a mattock, which needs both hands."""
    notes, tool = player.notes, digger(view)
    if tool is None or refuge.enemies_beside(level):
        return None
    if not any(item.letter == tool and _TWO_HANDED.search(item.text) for item in view.inventory):
        return None
    for item in view.inventory:
        if "shield" in item.text and "being worn" in item.text and item.text not in notes.taken_off:
            notes.taken_off.add(item.text)
            return Choice("T", {"want to take off": item.letter})
    return None


def zap(player: Memory, view: View, level: Level) -> Choice | None:
    """Zap an attack wand, but hit those whom it may have put to sleep before the next zap."""
    notes = player.notes
    if view.turn < notes.zapped_at + ZAP_AGAIN:
        return None
    choice = ranged.zap(player, view, level)
    if choice is not None:
        notes.zapped_at = view.turn
    return choice


def clear_way(player: Memory, view: View, level: Level) -> Choice | None:
    """Throw at what blocks the way and harms those who touch it: in need, all that is spare."""
    if spores := level.creatures(GAS_SPORE) & around(1 << level.here):
        return player.walk(spores, next_to=True) if view.hp > EXPLOSION else None
    if choice := _bolt(player, view, level):
        return choice
    if choice := behaviours.clear_way(player, view, level):
        return choice
    aim = ranged.direction_to(level, level.passive, 2)
    spare = [item for item in view.inventory if not _IN_USE.search(item.text)]
    if aim is None or not spare:
        return _strike_eye(player, view, level)
    item = min(spare, key=lambda item: THROWN_FIRST.get(item.oclass, len(THROWN_FIRST)))
    return Choice("t", {"want to throw": item.letter, "direction": aim[0]}, target=aim[1])


def _bolt(player: Memory, view: View, level: Level) -> Choice | None:
    """Cast force bolt, a wizard's first spell, at what blocks the way."""
    if player.role != "Wizard" or view.power < ranged.BOLT_POWER or view.hunger >= WEAK:
        return None
    if aim := ranged.direction_to(level, level.passive, 1):
        return Choice("Z", {"Choose which spell": "a", "direction": aim[0]}, target=aim[1])
    return player.walk(level.passive, next_to=True)


def _strike_eye(player: Memory, view: View, level: Level) -> Choice | None:
    """Hit a floating eye after a long wait: most whom it freezes live, and no other way is left."""
    if view.health < STRIKE_ABOVE or level.steps < STRIKE_AFTER:
        return None
    return player.walk(level.passive & level.creatures(EYE), next_to=True)


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
