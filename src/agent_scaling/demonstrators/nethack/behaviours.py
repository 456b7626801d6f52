"""What the player does, one short function each, in order of priority.

A behaviour looks at the player, the view and the level, and returns a choice of keys or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nle import nethack

from agent_scaling.demonstrators.nethack import food
from agent_scaling.demonstrators.nethack import glyphs as g
from agent_scaling.demonstrators.nethack.choice import DIRECTIONS, Choice
from agent_scaling.demonstrators.nethack.level import Level
from agent_scaling.demonstrators.nethack.view import HUNGRY, WEAK, View
from agent_scaling.demonstrators.pathfinding import around, path, straight_around

if TYPE_CHECKING:
    from agent_scaling.demonstrators.nethack.player import NetHackDemonstrator

Behaviour = Callable[["NetHackDemonstrator", View, Level], Choice | None]

PRAYER_TURNS = 1000
"""Turns between prayers that a god tolerates."""
FIRST_PRAYER_TURN = 150
EXPLORE_STEPS = 400
"""Decisions after which a level's stairs are taken even if it is not all explored."""
REST_BELOW, DESCEND_ABOVE = 0.5, 0.6
"""Health below which the player rests, and above which it goes deeper."""
TOOL_CLASS = 6


def pray(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Pray at low HP or when weak from hunger, if the last prayer is long enough ago."""
    last = player.prayed_at
    too_early = view.turn < FIRST_PRAYER_TURN if last is None else view.turn < last + PRAYER_TURNS
    if too_early or not (view.in_trouble or view.hunger >= WEAK):
        return None
    player.prayed_at = view.turn
    return Choice("\xf0", {"want to pray": "y"})


def flee(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """At low HP with an enemy beside, leave by stairs underfoot; down is worth more than up."""
    me = 1 << level.here
    if view.health > 0.33 or not around(me) & level.monsters:
        return None
    if me & level.stairs_down:
        return Choice(">")
    if me & level.stairs_up and view.depth > 1:
        return Choice("<")
    return None


def fight(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Hit the most dangerous adjacent enemy."""
    adjacent = player.neighbours(level.monsters)
    if not adjacent:
        return None
    player.chase = 0
    levels = g.monster_levels()

    def danger(index: int) -> int:
        glyph = level.glyph_at(index)
        return int(levels[glyph]) if glyph < g.MONSTERS else 0

    return player.go(max(adjacent, key=danger))


def wait_out(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Search in place while blind, confused, stunned or hallucinating."""
    masks = (nethack.BL_MASK_BLIND, nethack.BL_MASK_CONF, nethack.BL_MASK_STUN)
    return Choice("5s") if view.suffers(*masks) else None


def eat(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """When hungry: a fresh safe corpse underfoot or near, else food from the inventory."""
    if view.hunger < HUNGRY:
        return None
    meals = food.fresh_corpses(player, view)
    if meals & 1 << level.here:
        player.corpses.pop(level.here, None)
        return Choice("e", {"eat it?": "y", "eat one?": "y"})
    if meals and (choice := player.walk(meals)):
        return choice
    letter = food.best_ration(view)
    if letter is None:
        return None
    return Choice("e", {"eat it?": "n", "eat one?": "n", "want to eat": letter})


def rest(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Search twenty turns at a time to recover HP while no enemy is in sight."""
    if view.health >= REST_BELOW or view.hunger >= HUNGRY:
        return None
    if level.monsters & ~level.creatures(g.INVISIBLE):
        return None
    level.mark_search()
    return Choice("20s")


def chase(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Go for an enemy that is a few steps away, but not for ever."""
    player.chase = max(0, player.chase - 1)
    if view.health < REST_BELOW or player.chase > 30 or not level.monsters:
        return None
    route = path(level.here, level.monsters & level.walkable, level.walkable, level.doors)
    if route is None or len(route) > 6:
        return None
    player.chase += 4
    return player.go(route[1])


def dig_down(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """With a pick-axe, dig through the floor: the fastest way to the depths."""
    if level.no_digging or view.health < REST_BELOW:
        return None
    tool = next((i.letter for i in view.inventory() if "pick-axe" in i.text), None)
    if tool is None:
        return None
    me = 1 << level.here
    if me & (level.stairs_down | level.stairs_up | level.doors):
        return player.walk(level.walkable & ~(level.stairs_down | level.stairs_up | level.doors))
    return Choice("a", {"want to use or apply": tool, "direction": ">"})


def descend(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Take the stairs or a hole once the level has given what it has to give."""
    if view.health < DESCEND_ABOVE:
        return None
    if level.steps < EXPLORE_STEPS and player.walk(level.frontier | level.gold):
        return None
    if 1 << level.here & level.stairs_down:
        return Choice(">")
    if level.stairs_down and (choice := player.walk(level.stairs_down)):
        return choice
    if level.holes:
        return player.walk(level.holes, next_to=True)
    return None


def explore(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Walk to the nearest gold or unexplored edge."""
    return player.walk(level.frontier | level.gold)


def kick_door(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Kick a locked door in, standing straight before it."""
    for target in player.neighbours(level.locked & straight_around(1 << level.here)):
        key = DIRECTIONS[target - level.here]
        return Choice("\x04", {"direction": key}, target=None)
    return player.walk(straight_around(level.locked) & level.walkable) if level.locked else None


def take_risks(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Push boulders and cross traps to reach what is left to explore, or the way down."""
    return player.walk(level.frontier | level.stairs_down | level.boulders, careful=False)


def search(player: NetHackDemonstrator, view: View, level: Level) -> Choice | None:
    """Search for hidden passages at the most promising place."""
    spot = level.search_spots()
    if spot != 1 << level.here and (choice := player.walk(spot)):
        return choice
    level.mark_search()
    level.blocked = 0  # what was in the way may have moved
    return Choice("8s")


BEHAVIOURS: tuple[Behaviour, ...] = (
    pray,
    flee,
    fight,
    wait_out,
    eat,
    rest,
    chase,
    dig_down,
    descend,
    explore,
    kick_door,
    take_risks,
    search,
)
"""In order of priority: the first that has something to do acts."""
