"""Things worth carrying, armour worth wearing and corpses worth eating."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt
from nle import nethack

from agent_scaling.playing.demonstrators.nethack import behaviours, food
from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert import refuge
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import HUNGRY, View
from agent_scaling.playing.demonstrators.pathfinding import Cells, to_cells

ARMOUR_CLASS = 3
OVERLOADED = 3
"""Encumbrance from which nothing can be eaten."""
_ARMOUR = re.compile("hard hat|hard shoes|dwarvish iron helm|iron shoes|dented pot|orcish helm")
_ARMOUR_NAMES = frozenset({"dwarvish iron helm", "iron shoes", "dented pot", "orcish helm"})
_CARRIED = re.compile(
    r"dagger|dart|shuriken|pick-axe|broad pick|mattock|food ration|cram|lembas|[KC]-ration|"
    r"pancake|tripe|cream pie|candy|cookie|melon|banana|orange|pear\b|apple|carrot|"
    + _ARMOUR.pattern
)
_MENU_LINE = re.compile(r"(?:^| )([a-zA-Z]) - (.+)$")


@cache
def armour_glyphs() -> npt.NDArray[np.bool_]:
    """Look-up table [glyphs]: True for armour of dwarves and orcs, which fits most characters."""
    table = np.zeros(nethack.MAX_GLYPH + 1, dtype=np.bool_)
    table[g.objects_named(_ARMOUR_NAMES)] = True
    return table


@cache
def _digging_glyphs() -> list[int]:
    """Glyphs of the tools that dig."""
    return g.objects_named({"pick-axe", "dwarvish mattock"})


def armour_in(level: Level) -> Cells:
    """Cells that show armour worth wearing."""
    return to_cells(armour_glyphs()[level.glyphs])


def chosen(view: View) -> str:
    """Return the keys that choose what is worth carrying from the menu on the screen."""
    letters = ""
    for row in view.obs["tty_chars"].tolist():
        found = _MENU_LINE.search(bytes(row).decode("latin-1").rstrip())
        if found and _CARRIED.search(found[2]) and found[1] not in letters:
            letters += found[1]
    return letters + "\r"


def note_kill(level: Level, place: int, message: str) -> None:
    """Note where a dwarf fell: of what it leaves, its corpse alone can be seen."""
    if "dwar" in message:
        level.loot |= 1 << place


def note_items(level: Level) -> None:
    """Count armour and dwarves' belongings among the things worth having."""
    level.items |= armour_in(level) | level.loot
    level.visited &= ~level.loot


def fetch(player: Memory, view: View, level: Level) -> Choice | None:
    """Go for a tool that digs, or for what a dwarf left, before anything else."""
    if behaviours.digger(view) is not None:
        level.loot = 0
        return None
    if 1 << level.here & level.loot:
        level.loot &= ~(1 << level.here)
        return _take()
    tools = level.creatures(*_digging_glyphs()) & ~level.visited
    return player.walk(level.loot | tools)


def pick_up(player: Memory, view: View, level: Level) -> Choice | None:
    """Pick up what is worth it where the player walked for it, unless burdened."""
    found = level.underfoot
    if view.load > 0 and found not in _digging_glyphs():
        return None
    wears = found >= 0 and bool(armour_glyphs()[found])
    if not wears and behaviours.pick_up(player, view, level) is None:
        return None
    level.underfoot = g.NOTHING
    return _take()


def _take() -> Choice:
    def lift(view: View) -> str:
        return "y" if behaviours.DIGGER.search(view.message) else "n"

    return Choice(",", {"Pick up what": chosen, "trouble lifting": lift})


def wear(player: Memory, view: View, level: Level) -> Choice | None:
    """Put on found armour once, while no enemy is in sight."""
    if level.monsters:
        return None
    for item in view.inventory:
        known = item.oclass != ARMOUR_CLASS or not _ARMOUR.search(item.text)
        if known or "being worn" in item.text or item.text in player.notes.tried_on:
            continue
        player.notes.tried_on.add(item.text)
        return Choice("W", {"want to wear": item.letter})
    return None


def note_corpses(player: Memory, view: View) -> None:
    """Note where corpses of unknown or great age lie: what is killed there later may leave none."""
    level = player.level
    food.fresh_corpses(player, view)
    for place in [place for place in player.corpses if level.stale >> place & 1]:
        del player.corpses[place]
    bodies = (level.glyphs >= nethack.GLYPH_BODY_OFF) & (level.glyphs < nethack.GLYPH_RIDDEN_OFF)
    level.stale |= to_cells(bodies) & ~sum(1 << place for place in player.corpses)


def eat(player: Memory, view: View, level: Level) -> Choice | None:
    """Eat as the demonstrator does, unless a changed shape, a load or wounds forbid it."""
    hurt = view.health < refuge.REST_BELOW and view.hunger < HUNGRY
    return None if hurt or view.load >= OVERLOADED else behaviours.eat(player, view, level)
