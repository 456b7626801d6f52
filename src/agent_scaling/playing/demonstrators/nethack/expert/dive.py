"""Digging down with a pick-axe, level by level: depth scores more than all that is won above."""

from __future__ import annotations

import re

from nle import nethack

from agent_scaling.playing.demonstrators.nethack import behaviours
from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.behaviours import digger
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert import refuge
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import WEAK, View
from agent_scaling.playing.demonstrators.pathfinding import around, path

MAIN = 0
"""The branch in which a dive goes on to the Castle."""
DIVING_LEVEL, DIVING_HP = 3, 25
"""Experience level and maximum HP from which one with a pick-axe digs down without end."""
LATE = 1_500
"""Turn from which even the weak dive."""
DEEP = 2
"""Depth from which a diver who is well looks for nothing but the way down."""
BELOW_BRANCHES = 5
"""Depth from which a diver rests no more, even the weak dive, and all stairs lead on."""
WEAKER = 3
"""On a dive, only an enemy is fought whose level times this is at most the player's."""
SHELTER = 6
"""Depth from which each pit is written in before anything comes."""
MEDUSA = 21
"""Depth from which the word is written before there is a pit, too: ravens come at once."""
NEAR = 10
"""Steps to the stairs down that take less time than a hole."""
_HARD = re.compile("too hard to break|isn't enough room to dig")
_GOODS = re.compile("You see here|There are .* here")
_WATER = tuple(int(nethack.GLYPH_CMAP_OFF) + symbol for symbol in (32, 34, 41))


def dives(player: Memory, view: View) -> bool:
    """Return True for one who digs down without end."""
    if view.place[0] != MAIN or digger(view) is None or player.notes.welded:
        return False
    strong = view.hp_max >= DIVING_HP and view.experience_level >= DIVING_LEVEL
    late = view.turn >= LATE or player.notes.forsaken or view.hunger >= WEAK
    return bool(strong or late or view.depth >= BELOW_BRANCHES)


def may_begin(player: Memory, view: View) -> bool:
    """Return True for one who is well, or too hungry to become so."""
    return refuge.is_well(player, view) or view.hunger >= WEAK


def dive(player: Memory, view: View, level: Level) -> Choice | None:
    """Below the first levels, dig on whatever comes; hit only what is weak and in the way."""
    if view.depth < DEEP or not dives(player, view):
        return None
    if view.depth < BELOW_BRANCHES and not may_begin(player, view):
        return None
    alone = not refuge.enemies_beside(level)
    if alone and (meal := behaviours.eat_ration(view)):
        return meal
    if _may_fight(player, view, level):
        return behaviours.fight(player, view, level)
    return take_shelter(player, view, level) or go_down(player, view, level)


def _may_fight(player: Memory, view: View, level: Level) -> bool:
    """Return True beside a single enemy of a low level, outside a pit."""
    levels = g.monster_levels()
    beside = [level.glyph_at(place) for place in player.neighbours(level.monsters)]
    if len(beside) != 1 or player.notes.pit == (view.place, level.here):
        return False
    return beside[0] < g.MONSTERS and bool(levels[beside[0]] * WEAKER <= view.experience_level)


def take_shelter(player: Memory, view: View, level: Level) -> Choice | None:
    """Write ``Elbereth`` in a new pit, and under enemies that it scares.

    A pit wipes out what was written on its place before, but not what is written in it. Beside
    enemies that fear no word, each turn is one for digging.
    """
    in_pit = player.notes.pit == (view.place, level.here)
    beside = refuge.enemies_beside(level)
    afraid = beside & ~level.creatures(*refuge.fearless())
    early = view.depth >= (SHELTER if in_pit else MEDUSA)
    needed = bool(afraid) or (early and not beside)
    return refuge.shelter(player, view, level, needed=needed)


def note_hard(view: View, level: Level) -> None:
    """Note that the player stands on what cannot be dug, under a boulder or on goods for sale."""
    if _HARD.search(view.message) or (level.shop and _GOODS.search(view.message)):
        level.hard |= 1 << level.here


def note_pit(player: Memory, view: View, level: Level) -> None:
    """Note a pit that was dug, in which nothing is written yet."""
    notes = player.notes
    if "you dig a pit" in view.message.lower():
        notes.pit, notes.refuge, notes.unread = (view.place, level.here), None, None


def go_down(player: Memory, view: View, level: Level) -> Choice | None:
    """Take the stairs if they are near, or dig; None where neither can be done."""
    deep = view.depth >= BELOW_BRANCHES
    stairs = level.stairs_down & (~level.side_stairs if deep else level.main_stairs)
    if 1 << level.here & stairs:
        return Choice(">")
    way = path(level.here, stairs, level.walkable & ~level.monsters, level.doors)
    if way and 1 < len(way) <= NEAR:
        return player.go(way[1])
    return dig(player, view, level)


def dig(player: Memory, view: View, level: Level) -> Choice | None:
    """Dig through the floor, beside what cannot be dug and away from water, which fills holes.

    In a shop, a hole is dug where no goods fall in, if there is such a place.
    """
    tool = digger(view)
    if tool is None or level.no_digging:
        return None
    hard = level.stairs_down | level.stairs_up | level.doors | level.hard
    wet = around(level.creatures(*_WATER))
    if level.shop:
        hard |= level.objects
    if 1 << level.here & (hard | wet):
        dry = level.walkable & ~hard & ~level.monsters
        if choice := player.walk(dry & ~wet) or (
            player.walk(dry) if 1 << level.here & hard else None
        ):
            return choice
        if 1 << level.here & hard and not level.shop:
            return None
    return Choice("a", {"want to use or apply": tool, "direction": ">"})
