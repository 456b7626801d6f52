"""Getting a pick-axe from the dwarves of the Gnomish Mines."""

from __future__ import annotations

import numpy as np

from agent_scaling.playing.demonstrators.nethack.behaviours import digger
from agent_scaling.playing.demonstrators.nethack.choice import DIRECTIONS, Choice
from agent_scaling.playing.demonstrators.nethack.expert import refuge
from agent_scaling.playing.demonstrators.nethack.expert.dive import MAIN
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import HUNGRY, View
from agent_scaling.playing.demonstrators.pathfinding import (
    COLUMNS,
    ROWS,
    Cells,
    path,
    to_cells,
)

MINES, SOKOBAN = refuge.MINES, 4
"""Branches of the dungeon."""
STRONG = frozenset({"Barbarian", "Samurai", "Valkyrie"})
"""Roles that are a match for dwarves with fewer HP."""
MINING_LEVEL, MINING_HP, STRONG_HP = 2, 22, 18
"""Experience level and maximum HP from which dwarves are fought for their pick-axes."""
MINES_DEPTH = 6
"""Depth down to which dwarves are looked for."""
SEEK, CLIMBS = 3, 2
"""Levels that are climbed for the Mines, and how often each."""
_INSIDE = np.zeros((ROWS, COLUMNS), dtype=np.bool_)
_INSIDE[2:-1, 2:-1] = True  # the map's edge cannot be dug
LONG = 400
"""Decisions for which a level is explored before it is left."""


def starves(player: Memory, view: View) -> bool:
    """Return True for one who is hungry and whom no god feeds: what is left is depth."""
    return bool(player.notes.forsaken and view.hunger >= HUNGRY)


def are_kin(player: Memory) -> bool:
    """Return True where gnomes and dwarves keep the peace with one of their own."""
    return bool({"dwar", "gnom"} & {*player.kin})


def may_mine(player: Memory, view: View) -> bool:
    """Return True for one who is a match for dwarves."""
    needed = STRONG_HP if player.role in STRONG or are_kin(player) else MINING_HP
    return bool(view.experience_level >= MINING_LEVEL and view.hp_max >= needed)


def robs(player: Memory, view: View) -> bool:
    """Return True for one of the dwarves' kin who wants a pick-axe and is well enough to fight."""
    well = view.health >= refuge.REST_BELOW and may_mine(player, view)
    return well and are_kin(player) and digger(view) is None


def side_down(level: Level) -> Cells:
    """Return the stairs to the Mines: found to lead there, or beside others that do not."""
    others = level.stairs_down & ~level.main_stairs
    return level.stairs_down & level.side_stairs or (others if others != level.stairs_down else 0)


def seek_mines(player: Memory, view: View, level: Level) -> Choice | None:
    """Go back to the stairs to the Mines for a pick-axe, from a few levels below them."""
    if view.place[0] != MAIN or not may_mine(player, view) or digger(view) is not None:
        return None
    if not refuge.is_well(player, view):
        return None
    if side := side_down(level):
        return Choice(">") if 1 << level.here & side else player.walk(side)
    above = [
        n for (branch, n), there in player.levels.items() if branch == MAIN and side_down(there)
    ]
    climbs = player.notes.climbs
    if not above or not 0 < view.place[1] - max(above) <= SEEK:
        return None
    if climbs.get(view.place, 0) >= CLIMBS:
        return None
    if 1 << level.here & level.stairs_up:
        climbs[view.place] = climbs.get(view.place, 0) + 1
        return Choice("<")
    return player.walk(level.stairs_up) if level.stairs_up else None


def leave_branch(player: Memory, view: View, level: Level) -> Choice | None:
    """Go back to the main dungeon from Sokoban, and from the Mines unless there is work to do."""
    if view.place[0] == MINES:
        if (player.notes.lost or starves(player, view)) and digger(view) is None:
            return None
        stairs, key = level.stairs_up, "<"
        if may_mine(player, view):
            unexplored = level.steps < LONG and level.frontier | level.wanted
            if digger(view) is None and (unexplored or view.depth < MINES_DEPTH):
                return None
    elif view.place[0] == SOKOBAN:
        stairs, key = level.stairs_down, ">"
    else:
        return None
    if 1 << level.here & stairs:
        return Choice(key)
    if choice := player.walk(stairs):
        return choice
    blocked = level.shunned & ~level.passive  # the peaceful stand in the way until they move on
    free = level.walkable | blocked
    if path(level.here, stairs & free, free, level.doors):
        return Choice("2s")
    return tunnel(player, view, level, stairs) if view.place[0] == MINES else None


def tunnel(player: Memory, view: View, level: Level, goals: Cells) -> Choice | None:
    """Dig a straight way where none is wide enough for one who carries much."""
    solid = level.blank | level.walls | level.boulders | level.blocked
    free = (level.walkable | solid) & to_cells(_INSIDE)
    tool = digger(view)
    way = path(level.here, goals, free | goals, doors=free | goals)  # no diagonal steps
    if tool is None or way is None or len(way) < 2:
        return None
    step = way[1]
    if 1 << step & level.walkable & ~level.boulders:
        return player.go(step)
    return Choice("a", {"want to use or apply": tool, "direction": DIRECTIONS[step - level.here]})
