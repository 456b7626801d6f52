"""BALROG's progression against the table that BALROG and nle-progress publish."""

import itertools
import json

import pytest

from agent_scaling.envs.nethack.progression import progression
from tests.conftest import ROOT

PUBLISHED = json.loads((ROOT / "tests/fixtures/nle_progress.json").read_text())
"""Progression by the published names: Dlvl:1 … Dlvl:50, Xp:1 … Xp:30."""


def by_the_published_rule(history):
    """A game's progression: the largest value of all that its status lines have shown."""
    best = 0.0
    for depth, level in history:
        for name in (f"Dlvl:{depth}", f"Xp:{level}"):
            if name in PUBLISHED and PUBLISHED[name] > best:
                best = PUBLISHED[name]
    return best


@pytest.mark.parametrize("climbs", ["depth first", "level first"])
def test_every_combination_is_as_published(climbs):
    for depth, level in itertools.product(range(1, 51), range(1, 31)):
        down = [(d, 1 if climbs == "depth first" else level) for d in range(1, depth + 1)]
        up = [(depth if climbs == "depth first" else 1, x) for x in range(1, level + 1)]
        history = [(1, 1), *down, *up, (1, 1)]  # where a game ends does not matter
        assert progression(depth, level) == by_the_published_rule(history), (depth, level)


def test_levels_beyond_the_table_count_nothing():
    assert progression(-5, 1) == progression(0, 0) == progression(51, 31) == 0.0
    assert progression(-5, 14) == PUBLISHED["Xp:14"]


def test_an_ascension_is_all():
    assert progression(-5, 14, ascended=True) == 1.0
