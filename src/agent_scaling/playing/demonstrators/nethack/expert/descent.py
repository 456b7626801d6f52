"""Going down when the experience level suits it, and gaining experience until then."""

from __future__ import annotations

import re

from agent_scaling.playing.demonstrators.nethack import behaviours
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert import refuge
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import HUNGRY, View
from agent_scaling.playing.demonstrators.pathfinding import Cells

MAIN, MINES, SOKOBAN = 0, refuge.MINES, 4
"""Branches of the dungeon."""
NEEDED = (0, 1, 1, 2, 4, 6, 7, 8, 8, 9, 9, 10, 10)
"""Experience level from which each depth suits; all that is deeper suits from 11 on."""
DEEPEST = 11
LATE = 2_000
"""Turn from which even the weak dive."""
SEEK = 3
"""Levels that are climbed for the Mines."""
DEEP = 5
"""Depth from which a digger leaves stronger enemies behind."""
LONG, LOST = 400, 700
"""Decisions for which a level is explored before its stairs are taken, and after which one that
shows only the stairs to the Mines is given up for these."""
FORGIVE = 5
"""One in so many searches, places that could not be entered are tried again."""
SEARCH_TURNS = 12
"""Turns for which a spot is searched: each finds what is hidden beside it with one in seven."""
DIGGER = re.compile("pick-axe|mattock|broad pick")
PATIENCE, HUNGRY_PATIENCE = 1_000, 200
"""Turns on a level without a new experience level after which the next depth is risked."""
MINING_LEVEL, MINING_HP, MINES_DEPTH = 3, 25, 6
"""Experience level and maximum HP from which, and depth to which, dwarves are fought for their
pick-axes."""
DIVING_LEVEL, DIVING_HP = 3, 25
"""Experience level and maximum HP from which one with a pick-axe digs down without end."""


def needed(depth: int) -> int:
    """Return the experience level from which a depth suits."""
    return NEEDED[depth] if depth < len(NEEDED) else DEEPEST


def may_descend(player: Memory, view: View) -> bool:
    """Return True for one who is well enough, and strong or patient enough, for the next depth."""
    if view.health < behaviours.DESCEND_ABOVE or player.notes.resting:
        return False
    if view.experience_level >= needed(view.depth + 1) or starves(player, view):
        return True
    waited = view.turn - player.notes.since.get(view.place, view.turn)
    return bool(waited > (HUNGRY_PATIENCE if view.hunger >= HUNGRY else PATIENCE))


def starves(player: Memory, view: View) -> bool:
    """Return True for one who is hungry and whom no god feeds: what is left is depth."""
    return bool(player.notes.forsaken and view.hunger >= HUNGRY)


def digger(view: View) -> str | None:
    """Return the inventory letter of a tool that digs, or None."""
    return next((i.letter for i in view.inventory if DIGGER.search(i.text)), None)


def mines_are_hostile(player: Memory) -> bool:
    """Return True unless gnomes and dwarves keep the peace with their own."""
    return not {"dwar", "gnom"} & {*player.kin}


def may_mine(player: Memory, view: View) -> bool:
    """Return True for one who is a match for dwarves, and no friend of theirs."""
    strong = view.experience_level >= MINING_LEVEL and view.hp_max >= MINING_HP
    return bool(strong and mines_are_hostile(player))


def side_down(level: Level) -> Cells:
    """Return the stairs to the Mines: found to lead there, or beside others that do not."""
    others = level.stairs_down & ~level.main_stairs
    return level.stairs_down & level.side_stairs or (others if others != level.stairs_down else 0)


def seek_mines(player: Memory, view: View, level: Level) -> Choice | None:
    """Go back to the stairs to the Mines for a pick-axe, from a few levels below them."""
    if view.place[0] != MAIN or not may_mine(player, view) or digger(view) is not None:
        return None
    if player.notes.resting or view.health < behaviours.DESCEND_ABOVE:
        return None
    if side := side_down(level):
        return Choice(">") if 1 << level.here & side else player.walk(side)
    above = [
        n for (branch, n), there in player.levels.items() if branch == MAIN and side_down(there)
    ]
    if not above or not 0 < view.place[1] - max(above) <= SEEK:
        return None
    if 1 << level.here & level.stairs_up:
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
    return player.walk(stairs) if stairs else None


def dives(player: Memory, view: View) -> bool:
    """Return True for one who digs down without end."""
    if view.place[0] != MAIN or digger(view) is None:
        return False
    strong = view.hp_max >= DIVING_HP and view.experience_level >= DIVING_LEVEL
    return bool(strong or player.notes.forsaken or view.turn > LATE)


def dig_on(player: Memory, view: View, level: Level) -> Choice | None:
    """Dig on, on a dive, rather than fight the stronger: what stays above does no more harm."""
    if view.depth < DEEP or not dives(player, view) or not refuge.outmatched(view, level):
        return None
    return _dig(player, view, level)


def dig_down(player: Memory, view: View, level: Level) -> Choice | None:
    """Dig through the floor with a pick-axe, on a dive or where the next depth suits."""
    if view.health < behaviours.REST_BELOW or view.place[0] != MAIN:
        return None
    if not dives(player, view) and not may_descend(player, view):
        return None
    return _dig(player, view, level)


def _dig(player: Memory, view: View, level: Level) -> Choice | None:
    tool = digger(view)
    if tool is None or level.no_digging:
        return None
    undiggable = level.stairs_down | level.stairs_up | level.doors
    if 1 << level.here & undiggable:
        return player.walk(level.walkable & ~undiggable)
    return Choice("a", {"want to use or apply": tool, "direction": ">"})


def descend(player: Memory, view: View, level: Level) -> Choice | None:
    """Take the stairs or a hole to a depth that suits; the Mines' only for a pick-axe."""
    if not may_descend(player, view):
        return None
    side = side_down(level) if view.place[0] == MAIN else 0
    down = level.stairs_down & ~side
    if side:
        player.notes.lost = not down and level.steps > LOST
        if player.notes.lost:
            down = side
    if level.steps < (0 if starves(player, view) else LONG) and player.walk(
        level.frontier | level.wanted
    ):
        return None
    if 1 << level.here & down:
        return Choice(">")
    if down and (choice := player.walk(down)):
        return choice
    return player.walk(level.holes, next_to=True) if level.holes else None


def lie_in_wait(player: Memory, view: View, level: Level) -> Choice | None:
    """Let monsters come, on the stairs up if there are any, until the next depth suits."""
    if may_descend(player, view) or view.hunger >= HUNGRY:
        return None
    if not level.stairs_down & ~level.side_stairs:
        return None
    post = level.stairs_up or level.stairs_down
    if post and not 1 << level.here & post and (choice := player.walk(post)):
        return choice
    level.mark_search()
    return Choice("20s")


def take_risks(player: Memory, view: View, level: Level) -> Choice | None:
    """Push boulders and cross traps to what is unexplored, or the way down where that suits."""
    goals = level.risky_frontier
    if may_descend(player, view):
        goals |= level.stairs_down & ~level.side_stairs
    return player.walk(goals, careful=False)


def search(player: Memory, view: View, level: Level) -> Choice | None:
    """Search for hidden passages at the most promising place, longer than it takes on average."""
    if choice := behaviours.walk_to_search(player, level):
        return choice
    if int(level.searched.sum()) % FORGIVE == 0:
        level.blocked = 0  # the monster in the way may have moved
    return Choice(f"{SEARCH_TURNS}s")
