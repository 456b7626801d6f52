"""The player's memory of its game, and the moves that follow from it."""

from __future__ import annotations

from collections.abc import Iterable

from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.choice import DIRECTIONS, Choice
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.notes import Notes
from agent_scaling.playing.demonstrators.nethack.view import View
from agent_scaling.playing.demonstrators.pathfinding import Cells, path

RACES = ("dwar", "gnom", "orc")
"""Beginnings of the names of races that are also species of monsters."""


class Memory:
    """Facts about the character and its levels, which behaviours read and change."""

    def reset(self) -> None:
        """Forget everything: a new game begins."""
        self.levels: dict[tuple[int, int], Level] = {}
        self.level = Level()
        self.notes = Notes()
        self.view: View
        self.kin: tuple[str, ...] = ("human", "elf")
        """Species whose corpses this character does not eat."""
        self.role = ""
        self.prayed_at: int | None = None
        self.corpses: dict[int, int] = {}
        """Cells of this level where a safe corpse fell → the turn."""
        self.chase = 0
        """Decisions in a row that went after a creature without reaching it."""

    def walk(self, goals: Cells, *, careful: bool = True, next_to: bool = False) -> Choice | None:
        """One step of a shortest path to the nearest goal; None when there is no way.

        ``careful`` keeps off traps and boulders. ``next_to`` is true for goals that are entered
        only by kicking or hitting: the path then ends beside them.
        """
        level = self.level
        walkable = level.walkable if careful else level.risky
        if next_to:
            walkable |= goals
        route = path(level.here, goals & walkable, walkable, level.doors)
        if route is None or len(route) < 2:
            return None
        return self.go(route[1])

    def go(self, target: int) -> Choice:
        """Move to, or hit, a neighbouring cell."""
        key = DIRECTIONS[target - self.level.here]
        if self.level.glyph_at(target) == g.INVISIBLE:
            return Choice("F" + key, target=target)
        return Choice(key, target=target)

    def neighbours(self, cells: Cells) -> Iterable[int]:
        """Cells of a set that touch the player, in the order of :data:`DIRECTIONS`."""
        here = self.level.here
        return [here + d for d in DIRECTIONS if here + d >= 0 and 1 << here + d & cells]
