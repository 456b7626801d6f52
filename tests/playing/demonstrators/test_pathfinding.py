"""Bit-parallel search against the obvious one with a queue."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
import pytest

from agent_scaling.playing.demonstrators.pathfinding import (
    COLUMNS,
    ROWS,
    STRIDE,
    around,
    cell,
    layers,
    path,
    to_cells,
    to_mask,
)


def slow_distances(start, walkable, doors):
    """Distance of every cell from start by a queue; -1 where there is no way."""
    distance = np.full((ROWS, COLUMNS), -1)
    distance[start] = 0
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        for dr, dc in [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]:
            r, c = row + dr, column + dc
            if not (0 <= r < ROWS and 0 <= c < COLUMNS) or distance[r, c] >= 0:
                continue
            through_door = dr and dc and (doors[r, c] or doors[row, column])
            if walkable[r, c] and not through_door:
                distance[r, c] = distance[row, column] + 1
                queue.append((r, c))
    return distance


def random_map(seed):
    rng = np.random.default_rng(seed)
    walkable = rng.random((ROWS, COLUMNS)) < rng.uniform(0.35, 0.9)
    doors = rng.random((ROWS, COLUMNS)) < 0.1
    start = (int(rng.integers(ROWS)), int(rng.integers(COLUMNS)))
    return walkable, doors, start, rng


@pytest.mark.parametrize("seed", range(20))
def test_layers_are_the_distances(seed):
    walkable, doors, start, _ = random_map(seed)
    expected = slow_distances(start, walkable, doors)
    found = np.full((ROWS, COLUMNS), -1)
    for distance, layer in enumerate(layers(cell(*start), to_cells(walkable), to_cells(doors))):
        found[to_mask(layer)] = distance
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(20))
def test_path_is_legal_and_shortest(seed):
    walkable, doors, start, rng = random_map(seed)
    goals = (rng.random((ROWS, COLUMNS)) < 0.01) & walkable
    expected = slow_distances(start, walkable, doors)
    reachable = expected[goals & (expected >= 0)]
    route = path(cell(*start), to_cells(goals), to_cells(walkable), to_cells(doors))
    if not reachable.size:
        assert route is None
        return
    places = [divmod(index, STRIDE) for index in route]
    assert places[0] == start
    assert goals[places[-1]]
    assert len(route) - 1 == reachable.min()
    for (r0, c0), (r1, c1) in pairwise(places):
        assert max(abs(r0 - r1), abs(c0 - c1)) == 1
        assert walkable[r1, c1]
        if r0 != r1 and c0 != c1:
            assert not doors[r0, c0]
            assert not doors[r1, c1]


def test_no_shift_wraps_round_the_map():
    left_edge = np.zeros((ROWS, COLUMNS), dtype=bool)
    left_edge[5, 0] = True
    neighbours = to_mask(around(to_cells(left_edge)))
    assert neighbours.sum() == 6
    assert not neighbours[:, -1].any()


def test_sets_and_masks_are_inverse():
    mask = np.random.default_rng(0).random((ROWS, COLUMNS)) < 0.5
    np.testing.assert_array_equal(to_mask(to_cells(mask)), mask)
