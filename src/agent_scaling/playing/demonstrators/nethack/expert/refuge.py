"""Getting away from a fight that is being lost: stairs, ``Elbereth`` in the dust, rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from nle import nethack

from agent_scaling.playing.demonstrators.nethack import behaviours
from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert.prayer import may_pray
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import HUNGRY, WEAK, View
from agent_scaling.playing.demonstrators.pathfinding import Cells, around, path, to_cells

FLEE_BELOW, FLEE_BELOW_WITH_PRAYER, LEAVE_ABOVE = 0.5, 0.25, 0.8
"""Health below which a fight is left, the same for one whose prayer would be heard, and the health
above which the player goes back to it."""
REST_BELOW, RESTED = 0.65, 0.95
"""Health below which the player begins to rest, and at which it has rested."""
DIRE = 0.3
"""Health below which one without a prayer fears weak enemies, too."""
TRIES, FIGHT_TURNS = 6, 30
"""Times that the word is written or fails in one fight, which is over after so many turns without
it."""
_UNWRITTEN = re.compile("can't reach|no free hand")
"""From a pit's edge, and with a cursed mattock in hand, nothing can be written."""
_SHOT = re.compile(r"(are|almost) hit by|misses you")
_READ = re.compile(r'You read: "(.*?)"')
MINES = 2
"""The branch of the Mines."""
RETREAT, HOLD = 25, 150
"""Steps to the stairs up that are worth it, and decisions for which a level's enemies are awaited
there; the peaceful never come."""
HUMAN = next(i for i in range(g.MONSTERS) if g.monster_name(i) == "human")
NEAR = 5
"""Steps within which an enemy in sight is awaited turn by turn."""


@cache
def fearless() -> tuple[int, ...]:
    """Glyphs of the monsters that ``Elbereth`` does not scare: humans, elves and minotaurs."""
    people = nethack.permonst(HUMAN).mlet
    return tuple(
        glyph
        for glyph in range(g.MONSTERS)
        if nethack.permonst(glyph).mlet == people or g.monster_name(glyph) == "minotaur"
    )


def enemies_beside(level: Level) -> Cells:
    """Cells of the enemies that touch the player."""
    return around(1 << level.here) & level.monsters


def losing(player: Memory, view: View) -> bool:
    """Return True for one who should leave a fight."""
    return bool(view.health < (FLEE_BELOW_WITH_PRAYER if may_pray(player, view) else FLEE_BELOW))


def outmatched(view: View, level: Level) -> bool:
    """Return True where the enemies beside are together of a higher level than the player."""
    levels = g.monster_levels()
    beside = [level.glyph_at(i) for i in indices(enemies_beside(level))]
    total = sum(1 + int(levels[glyph]) for glyph in beside if glyph < g.MONSTERS)
    return bool(total > view.experience_level + 1)


def is_swallowed(level: Level) -> bool:
    """Return True inside a monster, whose inside is drawn around the player."""
    inside = level.glyphs >= nethack.GLYPH_SWALLOW_OFF
    inside &= level.glyphs < nethack.GLYPH_WARNING_OFF
    return bool(to_cells(inside) & around(1 << level.here))


def indices(cells: Cells) -> Iterator[int]:
    """Yield the index of each cell of a set."""
    while cells:
        low = cells & -cells
        yield low.bit_length() - 1
        cells ^= low


def is_well(player: Memory, view: View) -> bool:
    """Return True for one who is fit for another level."""
    return bool(view.health >= behaviours.DESCEND_ABOVE and not player.notes.resting)


def flee(player: Memory, view: View, level: Level) -> Choice | None:
    """Leave by the stairs underfoot when hurt: few can follow at once."""
    if not losing(player, view) or not enemies_beside(level):
        return None
    if 1 << level.here & level.stairs_up and view.depth > 1:
        player.notes.resting = True
        return Choice("<")
    return None


def retreat_to_stairs(player: Memory, view: View, level: Level) -> Choice | None:
    """In the Mines, go back to the stairs up from several enemies: most of them are slow."""
    enemies = level.monsters
    if view.place[0] != MINES or not enemies or 1 << level.here & level.stairs_up:
        return None
    if enemies.bit_count() < 2 and view.health > REST_BELOW:
        return None
    if player.notes.held.get(view.place, 0) > HOLD:
        return None
    way = path(level.here, level.stairs_up, level.walkable & ~enemies, level.doors)
    return player.go(way[1]) if way and 1 < len(way) <= RETREAT else None


def await_on_stairs(player: Memory, view: View, level: Level) -> Choice | None:
    """In the Mines, let the enemies in sight come to the stairs up, for a limited time."""
    if view.place[0] != MINES or not 1 << level.here & level.stairs_up or not level.monsters:
        return None
    if view.hunger >= WEAK:
        return None
    held = player.notes.held
    held[view.place] = held.get(view.place, 0) + 1
    return Choice("s") if held[view.place] <= HOLD else None


def engrave(player: Memory, view: View, level: Level) -> Choice | None:
    """Write ``Elbereth`` when hurt and without a prayer, and stay on it while it holds."""
    notes, here, beside = player.notes, (view.place, level.here), enemies_beside(level)
    if not beside:
        return None
    if view.turn > notes.refuge_turn + FIGHT_TURNS:
        notes.refuge_tries = 0
    if notes.refuge_tries >= TRIES or level.creatures(*fearless()) & beside:
        return None
    needed = losing(player, view) and (outmatched(view, level) or view.health < DIRE)
    if not needed and not (view.health < LEAVE_ABOVE and here in (notes.refuge, notes.unread)):
        return None
    if choice := shelter(player, view, level, needed=needed):
        return choice
    return Choice("s") if notes.refuge == here else None


def shelter(player: Memory, view: View, level: Level, *, needed: bool) -> Choice | None:
    """Write the word where it is ``needed`` and missing; read it over then, and when hit on it.

    To read takes no time. One letter in 25 goes wrong, and what scares a monster may be smudged.
    """
    notes, here = player.notes, (view.place, level.here)
    if notes.refuge == here and view.hp < notes.refuge_hp:
        notes.refuge, notes.unread = None, here
        notes.refuge_tries += 1
    if notes.unread == here:
        notes.unread, notes.refuge_hp = None, view.hp
        if _UNWRITTEN.search(view.message):
            return None
        if not view.suffers(nethack.BL_MASK_BLIND):  # to feel for it takes a turn
            return Choice(":")
    if not needed or notes.refuge == here or not can_engrave(view, level):
        return None
    return write(player, view, level)


def note_word(player: Memory, view: View, level: Level) -> None:
    """Note what is read on the ground: only the whole word is a refuge."""
    if read := _READ.search(view.message):
        player.notes.refuge = (view.place, level.here) if read[1] == "Elbereth" else None


def write(player: Memory, view: View, level: Level) -> Choice:
    """Write ``Elbereth`` in the dust and note where."""
    notes, here = player.notes, (view.place, level.here)
    notes.refuge, notes.unread, notes.refuge_turn = None, here, view.turn
    notes.refuge_tries += 1
    return Choice(
        "E",
        {
            "write with?": "-",
            "want to add": "n",
            "What do you want to write": "Elbereth\r",
            "You write in the dust": "\r",
            "You wipe out": "\r",
        },
    )


def can_engrave(view: View, level: Level) -> bool:
    """Return True where there is dust to write in, and eyes and hands to do it."""
    me = 1 << level.here
    if me & (level.stairs_down | level.stairs_up | level.doors):
        return False
    return not view.suffers(nethack.BL_MASK_LEV, nethack.BL_MASK_BLIND)


def stand(player: Memory, view: View, level: Level) -> Choice | None:
    """Await the enemies in sight when hurt, on the stairs up if these are near."""
    if view.health >= REST_BELOW or not level.monsters or view.hunger >= WEAK:
        return None
    near = path(level.here, level.monsters, level.walkable, level.doors)
    if _SHOT.search(view.message) and not enemies_beside(level):
        return _leave_by_stairs(player, view, level)
    if near is None or len(near) > NEAR:
        return Choice("5s")
    if view.depth > 1 and not 1 << level.here & level.stairs_up:
        way = path(level.here, level.stairs_up, level.walkable & ~level.monsters, level.doors)
        if way is not None and len(way) <= len(near):
            return player.go(way[1])
    return Choice("s")


def rest(player: Memory, view: View, level: Level) -> Choice | None:
    """Search twenty turns at a time until well, while no enemy is in sight."""
    notes = player.notes
    if view.health < REST_BELOW:
        notes.resting = True
    elif view.health >= RESTED:
        notes.resting = False
    if not notes.resting or view.hunger > HUNGRY:
        return None
    if level.monsters & ~level.creatures(g.INVISIBLE):
        return None
    if _SHOT.search(view.message):
        return _leave_by_stairs(player, view, level)
    level.mark_search()
    return Choice("20s")


def _leave_by_stairs(player: Memory, view: View, level: Level) -> Choice | None:
    """Go up to rest out of an archer's way, if the stairs are known."""
    if 1 << level.here & level.stairs_up:
        return Choice("<") if view.depth > 1 else None
    return player.walk(level.stairs_up)
