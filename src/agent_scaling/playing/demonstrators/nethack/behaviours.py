"""The player's behaviours, one short function each, in order of priority.

A behaviour looks at the player, the view and the level, and returns a choice of keys or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nle import nethack

from agent_scaling.playing.demonstrators.nethack import food
from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.choice import DIRECTIONS, Choice
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.ranged import cast, throw, throw_at, zap
from agent_scaling.playing.demonstrators.nethack.view import HUNGRY, SATIATED, WEAK, View
from agent_scaling.playing.demonstrators.pathfinding import around, path, straight_around

Behaviour = Callable[[Memory, View, Level], Choice | None]

PRAYER_TURNS = 1000
"""Turns between prayers that a god tolerates."""
DESPERATE_TURNS = 300
"""Turns after which another prayer is likelier to help than to anger: better than dying."""
FIRST_PRAYER_TURN = 105
"""A game starts with a prayer timeout of 300, and 200 are forgiven to the dying."""
EXPLORE_STEPS, PATIENT_STEPS = 150, 1_000
"""Decisions after which a level's stairs are taken even if it is not all explored; the second
while the experience level is below the depth."""
DIG_HP = 35
"""Maximum HP from which digging straight down is survivable for some levels."""
REST_BELOW, DESCEND_ABOVE = 0.7, 0.75
"""Health below which the player rests, and above which it goes deeper."""
DIGGER = re.compile("pick-axe|mattock|broad pick")
"""Names of the tools that dig."""


def pray(player: Memory, view: View, level: Level) -> Choice | None:
    """Pray at low HP or when weak from hunger, if the last prayer is long enough ago."""
    if not (view.in_trouble or view.hunger >= WEAK):
        return None
    last = player.prayed_at
    if last is None:
        too_early = view.turn < FIRST_PRAYER_TURN
    else:
        dying = view.in_trouble and around(1 << level.here) & level.monsters
        too_early = view.turn < last + (DESPERATE_TURNS if dying else PRAYER_TURNS)
    if too_early:
        return None
    player.prayed_at = view.turn
    return Choice("\xf0", {"want to pray": "y"})


def flee(player: Memory, view: View, level: Level) -> Choice | None:
    """At low HP with an enemy beside, leave by stairs underfoot; down is worth more than up."""
    me = 1 << level.here
    if view.health > 0.33 or not around(me) & level.monsters:
        return None
    if me & level.stairs_down:
        return Choice(">")
    if me & level.stairs_up and view.depth > 1:
        return Choice("<")
    return None


def fight(player: Memory, view: View, level: Level) -> Choice | None:
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


def wait_out(player: Memory, view: View, level: Level) -> Choice | None:
    """Search in place while blind, confused, stunned or hallucinating."""
    masks = (nethack.BL_MASK_BLIND, nethack.BL_MASK_CONF, nethack.BL_MASK_STUN)
    return Choice("5s") if view.suffers(*masks) else None


def eat(player: Memory, view: View, level: Level) -> Choice | None:
    """Eat a fresh safe corpse unless satiated; when hungry, food from the inventory."""
    if view.hunger == SATIATED or view.turn < 200:
        return None
    meals = food.fresh_corpses(player, view)
    if meals & 1 << level.here:
        player.corpses.pop(level.here, None)
        return Choice("e", {"eat it?": "y", "eat one?": "y"})
    if meals and (choice := player.walk(meals)):
        return choice
    return eat_ration(view)


def eat_ration(view: View) -> Choice | None:
    """Eat food from the inventory, when hungry."""
    if view.hunger < HUNGRY or (letter := food.best_ration(view)) is None:
        return None
    return Choice("e", {"eat it?": "n", "eat one?": "n", "want to eat": letter})


def rest(player: Memory, view: View, level: Level) -> Choice | None:
    """Search twenty turns at a time to recover HP while no enemy is in sight."""
    if view.health >= REST_BELOW or view.hunger >= HUNGRY:
        return None
    if level.monsters & ~level.creatures(g.INVISIBLE):
        return None
    level.mark_search()
    return Choice("20s")


def chase(player: Memory, view: View, level: Level) -> Choice | None:
    """Go for an enemy that is a few steps away, for a limited time."""
    player.chase = max(0, player.chase - 1)
    if view.health < REST_BELOW or player.chase > 30 or not level.monsters:
        return None
    route = path(level.here, level.monsters & level.walkable, level.walkable, level.doors)
    if route is None or len(route) > 6:
        return None
    player.chase += 4
    return player.go(route[1])


def digger(view: View) -> str | None:
    """Return the inventory letter of a tool that digs, or None."""
    return next((i.letter for i in view.inventory if DIGGER.search(i.text)), None)


def dig_down(player: Memory, view: View, level: Level) -> Choice | None:
    """With a pick-axe, dig through the floor: the fastest way to the depths."""
    if level.no_digging or view.health < REST_BELOW or view.hp_max < DIG_HP:
        return None
    tool = digger(view)
    if tool is None:
        return None
    me = 1 << level.here
    if me & (level.stairs_down | level.stairs_up | level.doors):
        return player.walk(level.walkable & ~(level.stairs_down | level.stairs_up | level.doors))
    return Choice("a", {"want to use or apply": tool, "direction": ">"})


def descend(player: Memory, view: View, level: Level) -> Choice | None:
    """Take the stairs or a hole once the level is explored."""
    if view.health < DESCEND_ABOVE:
        return None
    weak = view.experience_level < view.depth
    if level.steps < (PATIENT_STEPS if weak else EXPLORE_STEPS) and player.walk(
        level.frontier | level.wanted
    ):
        return None
    if 1 << level.here & level.stairs_down:
        return Choice(">")
    if level.stairs_down and (choice := player.walk(level.stairs_down)):
        return choice
    if level.holes:
        return player.walk(level.holes, next_to=True)
    return None


def pick_up(player: Memory, view: View, level: Level) -> Choice | None:
    """Pick up the item that the player walked to; gold is picked up by itself."""
    found, level.underfoot = level.underfoot, g.NOTHING
    if found == g.GOLD or not g.flags()[found] & g.WANTED:
        return None
    return Choice(",", {"Pick up what": ",\r"})


def explore(player: Memory, view: View, level: Level) -> Choice | None:
    """Walk to the nearest gold or unexplored edge."""
    return player.walk(level.frontier | level.wanted)


def kick_door(player: Memory, view: View, level: Level) -> Choice | None:
    """Kick a locked door in, standing straight before it; not where a watch looks on."""
    if level.watched:
        return None
    for target in player.neighbours(level.locked & straight_around(1 << level.here)):
        key = DIRECTIONS[target - level.here]
        return Choice("\x04", {"direction": key}, target=None)
    return player.walk(straight_around(level.locked) & level.walkable) if level.locked else None


def take_risks(player: Memory, view: View, level: Level) -> Choice | None:
    """Push boulders and cross traps to reach unexplored places or the way down."""
    return player.walk(level.risky_frontier | level.stairs_down, careful=False)


def clear_way(player: Memory, view: View, level: Level) -> Choice | None:
    """Kill a monster in the way: from a distance if possible, else by hand if that is bearable."""
    if not level.passive:
        return None
    if choice := throw_at(player, view, level, level.passive):
        return choice
    weak = level.passive & ~level.deadly
    if view.hp < 25 or not weak:
        return None
    return player.walk(weak, next_to=True)


def walk_to_search(player: Memory, level: Level) -> Choice | None:
    """Walk to where a hidden passage is most likely; there, note that it is searched."""
    spot = level.search_spots()
    if spot != 1 << level.here and (choice := player.walk(spot)):
        return choice
    level.mark_search()
    return None


def search(player: Memory, view: View, level: Level) -> Choice | None:
    """Search for hidden passages at the most promising place."""
    if choice := walk_to_search(player, level):
        return choice
    level.blocked = 0  # the monster in the way may have moved
    return Choice("8s")


BEHAVIOURS: tuple[Behaviour, ...] = (
    pray,
    flee,
    zap,
    cast,
    throw,
    fight,
    wait_out,
    eat,
    rest,
    pick_up,
    chase,
    dig_down,
    descend,
    explore,
    kick_door,
    take_risks,
    clear_way,
    search,
)
"""Behaviours in order of priority; the first that has something to do acts."""
