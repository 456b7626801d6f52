"""Compares two tables of episodes seed by seed: differences with intervals, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from agent_scaling.envs.versions import mixed
from agent_scaling.playing.rollouts.tables import MEASURES
from agent_scaling.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

COMPARED = ("solved", *MEASURES)
"""Columns of which differences are taken, where both tables have them."""
LEVEL = 0.90
"""Nominal coverage of the intervals."""
GAME_SEEDS = ("core_seed", "display_seed", "lgen_seed")
"""Columns that are the same in both tables where a seed was the same game."""
VERSIONS = "versions"


@dataclass(frozen=True)
class Difference:
    """The differences of a measure over seeds that both tables have: second minus first."""

    first: float
    """Mean of the first table over those seeds; the next is the second's."""
    second: float
    mean: float
    """Mean of the differences."""
    se: float | None
    """Its standard error; None for a single seed."""
    interval: tuple[float, float] | None
    """90 % t-interval of the mean over seeds; None for a single seed."""
    higher: int
    """Seeds where the second is higher; the next: where the first is."""
    lower: int

    @property
    def sign(self) -> int:
        """1 or −1 where the interval lies above or below 0; else 0."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high < 0)


def pair(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return a row per seed that both tables have and finished, in the first's order.

    Columns are ``seed`` and those of both tables, with ``_first`` and ``_second`` behind the names.

    Raises:
        InputError: A table has no seeds or one twice, or they share none.
    """
    whole = {}
    for name, table in (("first", first), ("second", second)):
        if "seed" not in table or table["seed"].duplicated().any():
            raise InputError(f"{name}=: no table of episodes with each seed once")
        ended = table["end"].ne("crashed") if "end" in table else slice(None)
        whole[name] = table[ended]
    pairs = whole["first"].merge(
        whole["second"], on="seed", suffixes=("_first", "_second"), validate="one_to_one"
    )
    if pairs.empty:
        raise InputError("first= and second=: the tables share no seed; play the same seeds")
    return pairs


def differences(pairs: pd.DataFrame) -> dict[str, Difference]:
    """Return the difference of each measure that both tables have."""
    found = {}
    for name in COMPARED:
        if f"{name}_first" in pairs and f"{name}_second" in pairs:
            both = (pairs[f"{name}_{side}"].astype(float) for side in ("first", "second"))
            found[name] = difference(*(values.to_numpy() for values in both))
    return found


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Return the paired difference of two arrays [seeds]; NaNs are no seeds."""
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    each = second - first
    count, mean = len(each), float(each.mean()) if len(each) else math.nan
    se = interval = None
    if count > 1:
        se = float(each.std(ddof=1) / math.sqrt(count))
        half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * se
        interval = (mean - half, mean + half)
    one, two = (float(values.mean()) if count else math.nan for values in (first, second))
    return Difference(one, two, mean, se, interval, int((each > 0).sum()), int((each < 0).sum()))


def verdict(found: Difference, by: str, seeds: int, names: Mapping[str, str]) -> str:
    """Return a sentence that says which of two is better by a measure, or that neither is shown.

    Args:
        found: The measure's difference.
        by: The measure.
        seeds: The number of seeds.
        names: What ``first`` and ``second`` are called.
    """
    if found.interval is None:
        return "One seed shows no difference: play more."
    low, high = (f"{value:,.{digits(by)}f}" for value in found.interval)
    mean = f"{abs(found.mean):,.{digits(by)}f}"
    over = f"over {seeds} seeds"
    if found.sign:
        better, other = ("second", "first") if found.sign > 0 else ("first", "second")
        if found.sign < 0:
            low, high = (f"{-value:,.{digits(by)}f}" for value in reversed(found.interval))
        return (
            f"{names[better]} is better: its {by} is {mean} above that of {names[other]} "
            f"(90 % interval {low} to {high}, {over})."
        )
    if found.mean == 0:
        return f"No difference in {by}: the mean is the same (interval {low} to {high}, {over})."
    needed = math.ceil(seeds * ((found.interval[1] - found.mean) / found.mean) ** 2)
    return (
        f"No difference in {by} is shown: second − first is {found.mean:+,.{digits(by)}f} (90 % "
        f"interval {low} to {high}, {over}); if it is as large as this, some {needed:,} seeds "
        "would show it."
    )


def digits(measure: str) -> int:
    """Decimals with which a measure is printed."""
    return 4 if measure in ("progression", "solved") else 1


def notes(first: pd.DataFrame, second: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Return what makes a comparison of two tables weaker than it looks, a line each."""
    found = []
    for name, table in (("first", first), ("second", second)):
        if left := len(table) - len(pairs):
            found.append(f"{left} of the {len(table)} episodes of {name} have no pair; left out")
    if VERSIONS in {*first, *second}:
        texts = [t[VERSIONS] if VERSIONS in t else [None] * len(t) for t in (first, second)]
        if line := mixed(text for column in texts for text in column):
            found.append(f"the same seeds may be other games, since versions differ: {line}")
    given = [name for name in GAME_SEEDS if {f"{name}_first", f"{name}_second"} <= {*pairs}]
    other = [name for name in given if pairs[f"{name}_first"].ne(pairs[f"{name}_second"]).any()]
    if other:
        found.append(f"the same seeds were other games: {', '.join(other)} differ")
    return found


def as_json(found: Difference) -> dict[str, Any]:
    """Return a difference as JSON values."""
    plain = {name: getattr(found, name) for name in Difference.__dataclass_fields__}
    plain["interval"] = None if found.interval is None else list(found.interval)
    return {name: None if value != value else value for name, value in plain.items()}
