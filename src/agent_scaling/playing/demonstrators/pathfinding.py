"""Shortest paths on NetHack's map, by breadth-first search on whole sets of cells at once.

A set of cells is one Python integer with a bit per cell, so a search expands a whole distance layer
by eight shifts: microseconds where a queue of cells takes milliseconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROWS, COLUMNS = 21, 79
"""Shape of the dungeon map."""

STRIDE = COLUMNS + 1
"""Bits per row; the spare column stays empty, so that no shift wraps into the next row."""

Cells = int
"""A set of cells: bit ``row * STRIDE + column``."""


def cell(row: int, column: int) -> int:
    """Index of a cell, which is its bit's position in :data:`Cells`."""
    return row * STRIDE + column


def to_cells(mask: npt.NDArray[np.bool_]) -> Cells:
    """The set of True cells of a boolean map [21, 79]."""
    padded = np.zeros((ROWS, STRIDE), dtype=np.bool_)
    padded[:, :COLUMNS] = mask
    return int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")


def to_mask(cells: Cells) -> npt.NDArray[np.bool_]:
    """The boolean map [21, 79] of a set."""
    raw = np.frombuffer(cells.to_bytes(ROWS * STRIDE // 8, "little"), dtype=np.uint8)
    bits = np.unpackbits(raw, bitorder="little").reshape(ROWS, STRIDE)
    return bits[:, :COLUMNS].astype(np.bool_)


def around(cells: Cells) -> Cells:
    """The cells themselves and their eight neighbours (the spare column included)."""
    row = cells | cells << 1 | cells >> 1
    return row | row << STRIDE | row >> STRIDE


def straight_around(cells: Cells) -> Cells:
    """The four straight neighbours of a set."""
    return cells << 1 | cells >> 1 | cells << STRIDE | cells >> STRIDE


def step(cells: Cells, doors: Cells) -> Cells:
    """Every cell one move away; doors are neither entered nor left diagonally."""
    free = cells & ~doors
    diagonal = free << STRIDE + 1 | free << STRIDE - 1 | free >> STRIDE - 1 | free >> STRIDE + 1
    return straight_around(cells) | diagonal & ~doors


def layers(start: int, walkable: Cells, doors: Cells, goals: Cells = 0) -> list[Cells]:
    """Cells at distance 0, 1, 2, … from ``start``; ends with the first layer that meets a goal."""
    frontier = reached = 1 << start
    found = [frontier]
    while not frontier & goals:
        frontier = step(frontier, doors) & walkable & ~reached
        if not frontier:
            break
        reached |= frontier
        found.append(frontier)
    return found


def path(start: int, goals: Cells, walkable: Cells, doors: Cells) -> list[int] | None:
    """A shortest path from ``start`` to the nearest of ``goals``, both ends included.

    ``start`` need not be walkable. Ties are broken towards straight moves, then low indices, so
    that the same map always gives the same path. None when no goal can be reached.
    """
    found = layers(start, walkable, doors, goals)
    hit = found[-1] & goals
    if not hit:
        return None
    current = hit & -hit
    back = [current.bit_length() - 1]
    for layer in reversed(found[:-1]):
        previous = straight_around(current) & layer or step(current, doors) & layer
        current = previous & -previous
        back.append(current.bit_length() - 1)
    return back[::-1]
