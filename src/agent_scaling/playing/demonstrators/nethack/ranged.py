"""Fighting at a distance: thrown and fired missiles, attack wands, force bolts."""

from __future__ import annotations

import re

from nle import nethack

from agent_scaling.playing.demonstrators.nethack.choice import DIRECTIONS, Choice
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import View
from agent_scaling.playing.demonstrators.pathfinding import Cells

REACH = 6
"""Squares that missiles fly for certain."""
ZAP_BELOW = 0.6
"""Health below which zapping is worth a wand's charge."""
BOLT_POWER = 5

_THROWN = re.compile(r"\b(daggers?|darts?|shuriken|knives|knife|spears?|javelins?)\b")
_SHOT = re.compile(r"\b(arrows?|ya)\b")
_BOW = re.compile(r"\b(bow|yumi)\b.*\(weapon in hand\)")
_WAND = re.compile(r"wand of (sleep|striking|magic missile|cold|fire|lightning) \(\d+:[1-9]")


def missile(view: View) -> str | None:
    """Inventory letter of something made to be thrown, or of arrows when a bow is in hand."""
    items = [i for i in view.inventory if "wielded" not in i.text and "in hand" not in i.text]
    bow = any(_BOW.search(i.text) for i in view.inventory)
    for item in items:
        if _THROWN.search(item.text) or (bow and _SHOT.search(item.text)):
            return item.letter
    return None


def direction_to(level: Level, targets: Cells, reach: int = REACH) -> tuple[str, int] | None:
    """(key, cell) of the nearest target in a straight line with nothing but floor before it."""
    best: tuple[int, str, int] | None = None
    for delta, key in DIRECTIONS.items():
        place = level.here
        for distance in range(1, reach + 1):
            place += delta
            if place < 0 or not 1 << place & (level.walkable | targets):
                break
            if 1 << place & targets:
                if best is None or distance < best[0]:
                    best = (distance, key, place)
                break
            if nethack.glyph_is_pet(level.glyph_at(place)):
                break
    return best and (best[1], best[2])


def throw(player: Memory, view: View, level: Level) -> Choice | None:
    """Throw a missile at an enemy in line, near or far."""
    if not level.monsters:
        return None
    return throw_at(player, view, level, level.monsters)


def throw_at(player: Memory, view: View, level: Level, targets: Cells) -> Choice | None:
    """Throw a missile at the nearest target in line."""
    aim = direction_to(level, targets)
    if aim is None or (letter := missile(view)) is None:
        return None
    key, target = aim
    level.visited = 0  # the missile may lie on a cell that the player has visited
    return Choice("t", {"want to throw": letter, "direction": key}, target=target)


def zap(player: Memory, view: View, level: Level) -> Choice | None:
    """Zap a charged attack wand at an adjacent enemy when hurt."""
    if view.health > ZAP_BELOW or not (aim := direction_to(level, level.monsters, 1)):
        return None
    wand = next((i.letter for i in view.inventory if _WAND.search(i.text)), None)
    if wand is None:
        return None
    return Choice("z", {"want to zap": wand, "direction": aim[0]}, target=aim[1])


def cast(player: Memory, view: View, level: Level) -> Choice | None:
    """Cast force bolt, a wizard's first spell, at an adjacent enemy while power lasts."""
    if player.role != "Wizard" or view.power < BOLT_POWER:
        return None
    aim = direction_to(level, level.monsters, 1)
    if aim is None:
        return None
    return Choice("Z", {"Choose which spell": "a", "direction": aim[0]}, target=aim[1])
