"""Going down when the experience level suits it, and gaining experience until then."""

from __future__ import annotations

from agent_scaling.playing.demonstrators.nethack import behaviours
from agent_scaling.playing.demonstrators.nethack.behaviours import digger
from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.expert import mining, refuge
from agent_scaling.playing.demonstrators.nethack.expert.dive import MAIN, dives, go_down, may_begin
from agent_scaling.playing.demonstrators.nethack.expert.mining import LONG, MINES, side_down
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import HUNGRY, View

NEEDED = (0, 1, 1, 2, 4, 6, 7, 8, 8, 9, 9, 10, 10)
"""Experience level from which each depth suits; all that is deeper suits from 11 on."""
DEEPEST = 11
LOST = 700
"""Decisions after which a level that shows only the stairs to the Mines is given up for these."""
FORGIVE = 5
"""One in so many searches, places that could not be entered are tried again."""
SEARCH_TURNS = 12
"""Turns for which a spot is searched: each finds what is hidden beside it with one in seven."""
PATIENCE, HUNGRY_PATIENCE = 1_000, 200
"""Turns on a level without a new experience level after which the next depth is risked."""


def needed(depth: int) -> int:
    """Return the experience level from which a depth suits."""
    return NEEDED[depth] if depth < len(NEEDED) else DEEPEST


def may_descend(player: Memory, view: View) -> bool:
    """Return True for one who is well enough, and strong or patient enough, for the next depth."""
    if not refuge.is_well(player, view):
        return False
    if view.experience_level >= needed(view.depth + 1) or mining.starves(player, view):
        return True
    waited = view.turn - player.notes.since.get(view.place, view.turn)
    return bool(waited > (HUNGRY_PATIENCE if view.hunger >= HUNGRY else PATIENCE))


def dig_down(player: Memory, view: View, level: Level) -> Choice | None:
    """Begin a dive with a pick-axe, when well or too hungry to become so."""
    if not dives(player, view):
        return None
    return go_down(player, view, level) if may_begin(player, view) else None


def descend(player: Memory, view: View, level: Level) -> Choice | None:
    """Take the stairs or a hole to a depth that suits; the Mines' only for a pick-axe."""
    if not may_descend(player, view) or (view.place[0] == MINES and digger(view) is not None):
        return None
    side = side_down(level) if view.place[0] == MAIN else 0
    down = level.stairs_down & ~side
    if side:
        player.notes.lost = not down and level.steps > LOST
        if player.notes.lost:
            down = side
    if level.steps < (0 if mining.starves(player, view) else LONG) and player.walk(
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
