"""One dungeon level as the player knows it: where to walk, what is unexplored, what lies there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.pathfinding import (
    COLUMNS,
    ROWS,
    STRIDE,
    Cells,
    around,
    cell,
    layers,
    to_cells,
    to_mask,
)

FORGET_TURNS = 100
"""Turns for which a species that turned out to be peaceful is left alone."""


@dataclass(slots=True)
class Level:
    """The player's knowledge of one level; :meth:`update` reads a new screen into it.

    NetHack itself remembers terrain on the screen, except what creatures and objects cover: doors
    and stairs once seen are therefore kept here.
    """

    glyphs: npt.NDArray[np.int16] = field(
        default_factory=lambda: np.full((ROWS, COLUMNS), g.NOTHING, dtype=np.int16)
    )
    here: int = 0
    """The cell where the player stands."""
    walkable: Cells = 0
    """Cells that a path may use: no traps, boulders, shunned creatures or locked doors."""
    doors: Cells = 0
    """Open and closed doors, which are not passed diagonally."""
    blank: Cells = 0
    walls: Cells = 0
    monsters: Cells = 0
    """Creatures that may be attacked."""
    shunned: Cells = 0
    passive: Cells = 0
    """Shunned creatures that harm only those who touch them; the deadly ones always do."""
    deadly: Cells = 0
    boulders: Cells = 0
    traps: Cells = 0
    holes: Cells = 0
    corridors: Cells = 0
    stairs_down: Cells = 0
    stairs_up: Cells = 0
    side_stairs: Cells = 0
    """Those that were found to lead to the Mines or to Sokoban."""
    main_stairs: Cells = 0
    """Those that were found to lead on in the main dungeon."""
    locked: Cells = 0
    blocked: Cells = 0
    """Cells that look free and could not be entered; worth another try."""
    forbidden: Cells = 0
    """Cells that are kept out of for good: shops."""
    avoided: Cells = 0
    """Where shunned creatures were last seen; out of sight they leave the screen."""
    objects: Cells = 0
    """Where anything lies, the player's own cell excepted."""
    shop: bool = False
    """There is a shop, whose goods are not to fall through a hole."""
    items: Cells = 0
    """Things worth having: gold, food, digging tools, missiles."""
    loot: Cells = 0
    """Where dwarves fell: what they carried lies under their corpses."""
    stale: Cells = 0
    """Where corpses of unknown age have been seen."""
    visited: Cells = 0
    """Cells that the player has stood on; items that still lie there cannot be had."""
    seen: Cells = 0
    """Cells that have been next to the player: a blank one among them is rock."""
    underfoot: int = g.NOTHING
    """Glyph that the player's cell showed before the player stepped on it."""
    steps: int = 0
    """Decisions taken on this level."""
    searched: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((ROWS, COLUMNS), dtype=np.int64)
    )
    """Times that each cell was within reach of a search."""
    peaceful: dict[int, int] = field(default_factory=dict)
    """Glyph of a creature that turned out to be peaceful → turn until which to believe it."""
    watched: bool = False
    """A town with a watch, which does not like doors to be kicked."""
    no_digging: bool = False
    """The floor here cannot be dug through."""
    hard: Cells = 0
    """Cells where no hole is dug: altars, thrones, goods for sale."""

    def update(
        self, glyphs: npt.NDArray[np.int16], row: int, column: int, turn: int, blind: bool
    ) -> None:
        """Read a screen: glyphs [21, 79] and the player's place."""
        if self.here != cell(row, column):
            self.here, self.underfoot = cell(row, column), int(self.glyphs[row, column])
        self.steps += 1
        me = 1 << self.here
        if not blind:
            self.seen |= around(me)
        if not np.array_equal(glyphs, self.glyphs):
            self.glyphs = glyphs.copy()
            self._read(g.flags()[glyphs], me)
        self.peaceful = {kind: until for kind, until in self.peaceful.items() if until > turn}
        kept = self.creatures(*self.peaceful) if self.peaceful else 0
        self.monsters &= ~kept
        self.shunned |= kept
        self.avoided = self.avoided & ~around(me) | self.shunned
        self.visited |= me
        self.walkable &= ~(self.avoided | self.locked | self.blocked | self.forbidden)
        self.walkable |= me

    def _read(self, flags: npt.NDArray[np.uint32], me: Cells) -> None:
        def where(flag: int) -> Cells:
            return to_cells((flags & flag) != 0)

        floor, objects = where(g.FLOOR), where(g.OBJECT)
        open_doors, closed = where(g.OPEN_DOOR), where(g.CLOSED_DOOR)
        self.blank, self.walls, self.corridors = where(g.BLANK), where(g.WALL), where(g.CORRIDOR)
        self.boulders, self.traps = where(g.BOULDER), where(g.TRAP) & ~me
        self.holes = where(g.HOLE) & ~me
        self.items, self.objects = where(g.WANTED), objects
        creatures = where(g.MONSTER) & ~me
        self.shunned = where(g.SHUNNED) & ~me
        self.watched |= bool(where(g.WATCH))
        self.passive, self.deadly = where(g.PASSIVE) & ~me, where(g.DEADLY) & ~me
        self.monsters = creatures & ~self.shunned
        known = floor | self.walls | self.traps
        self.doors = self.doors & ~known | open_doors | closed
        self.locked &= closed
        self.stairs_down = self.stairs_down & ~known | where(g.STAIRS_DOWN)
        self.stairs_up = self.stairs_up & ~known | where(g.STAIRS_UP)
        self.walkable = floor | objects | open_doors | closed | creatures

    def note_stairs(self, place: int, *, side: bool) -> None:
        """Note where the stairs on a cell lead: to a side branch or on in the main dungeon."""
        if side:
            self.side_stairs |= 1 << place
        else:
            self.main_stairs |= 1 << place

    def creatures(self, *kinds: int) -> Cells:
        """Cells that show one of these glyphs, the player's own excepted."""
        return to_cells(np.isin(self.glyphs, kinds)) & ~(1 << self.here)

    def glyph_at(self, index: int) -> int:
        """Glyph on a cell."""
        return int(self.glyphs[divmod(index, STRIDE)])

    @property
    def wanted(self) -> Cells:
        """Things worth having that have not been stood on."""
        return self.items & ~self.visited

    @property
    def risky(self) -> Cells:
        """Walkable cells, and those walkable at a risk: traps, and boulders that may move."""
        return self.walkable | (self.traps | self.boulders) & ~(self.blocked | self.forbidden)

    @property
    def frontier(self) -> Cells:
        """Walkable cells next to a blank cell that the player has never stood beside."""
        return self.walkable & self._unknown

    @property
    def risky_frontier(self) -> Cells:
        """The frontier among the cells that are walkable at a risk."""
        return self.risky & self._unknown

    @property
    def _unknown(self) -> Cells:
        return around(self.blank & ~self.seen) & ~(1 << self.here)

    def search_spots(self) -> Cells:
        """The best reachable cell from which to search for hidden passages, as a set of one.

        Dead ends of corridors and walls that face much blank space are promising; spots lose by
        distance and by each search made there.
        """
        value = np.full((ROWS, COLUMNS), -np.inf)
        promise = self._promise() * 0.6**self.searched
        for distance, layer in enumerate(layers(self.here, self.walkable, self.doors)):
            mask = to_mask(layer)
            value[mask] = promise[mask] / (15 + distance)
        row, column = divmod(int(value.argmax()), COLUMNS)
        return 1 << cell(row, column)

    def _promise(self) -> npt.NDArray[np.float64]:
        blank = to_mask(self.blank).astype(np.float64)
        walls, walkable = to_mask(self.walls), to_mask(self.walkable)
        blank_near = _window_sum(blank, 5) / 121
        neighbours = _window_sum(walkable.astype(np.float64), 1) - walkable
        dead_end = to_mask(self.corridors | 1 << self.here) & (neighbours <= 1)
        beside_wall = _window_sum(walls.astype(np.float64), 1) > 0
        return blank_near * (beside_wall + 3.0 * dead_end + 0.2)

    def mark_search(self, times: int = 1) -> None:
        """Note that the cells around the player have been searched."""
        row, column = divmod(self.here, STRIDE)
        self.searched[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] += times


def _window_sum(values: npt.NDArray[np.float64], radius: int) -> npt.NDArray[np.float64]:
    """Sum over the square window of ``2 * radius + 1`` cells around each cell; outside is 0."""
    padded = np.pad(values, ((radius + 1, radius), (radius + 1, radius)))
    total = padded.cumsum(0).cumsum(1)
    size = 2 * radius + 1
    rows = total[size:] - total[:-size]
    window: npt.NDArray[np.float64] = rows[:, size:] - rows[:, :-size]
    return window
