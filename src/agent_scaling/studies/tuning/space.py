"""The keys that a search varies: a range or choices for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_scaling.config.check import flatten
from agent_scaling.runtime.errors import InputError

Value = bool | int | float | str
ENDS = ("lowest", "highest", "scale")
SCALES = ("log", "linear")
DIGITS = 4
"""Significant digits of the values that are tried."""


@dataclass(frozen=True)
class Key:
    """A key of ``train`` with the values that it may have.

    Attributes:
        name: A dotted key or a group, as :mod:`agent_scaling.studies.experiments` reads them.
        choices: The values, where they are listed; else there are two ends.
        lowest: The lower end.
        highest: The upper end.
        log: True where equal ratios are equal steps.
    """

    name: str
    choices: tuple[Value, ...] = ()
    lowest: float = 0.0
    highest: float = 0.0
    log: bool = True

    @property
    def whole(self) -> bool:
        """True where the values are whole numbers."""
        return isinstance(self.lowest, int) and isinstance(self.highest, int)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values to check before a search: all choices, or both ends."""
        return self.choices or (self.lowest, self.highest)

    def has(self, value: object) -> bool:
        """True where ``value`` is one that a search could try."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.lowest <= value <= self.highest

    def tidy(self, value: Value) -> Value:
        """Return ``value`` with few digits, where it lies between two ends."""
        if self.choices or self.whole:
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.lowest), self.highest)


def space_of(given: Mapping[str, Any]) -> list[Key]:
    """Read ``{key: {lowest, highest, scale} or [choices]}``, nested or by dotted key.

    Raises:
        InputError: None is given, or a range or a list is impossible.
    """
    ranges: dict[str, dict[str, Any]] = {}
    keys: dict[str, Key | None] = {}
    for name, value in flatten(given).items():
        stem, _, end = name.rpartition(".")
        if end in ENDS and stem:
            ranges.setdefault(stem, {})[end] = value
            keys[stem] = None
        else:
            keys[name] = listed(name, value)
    if not keys:
        raise InputError("search: names no key; give search={KEY:{lowest:a,highest:b}}")
    return [key or between(name, ranges[name]) for name, key in keys.items()]


def listed(name: str, value: object) -> Key:
    """Read a list of choices.

    Raises:
        InputError: It has fewer than two distinct plain values.
    """
    values: Sequence[Any] = ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        values = value
    choices = tuple(values) if all(isinstance(v, Value) for v in values) else ()
    if len({*choices}) < 2 or len({*choices}) < len(choices):
        raise InputError(
            f"search.{name}={value}: give two or more distinct choices, [a,b,…], or a range, "
            "{lowest:a,highest:b}"
        )
    return Key(name, choices)


def between(name: str, ends: Mapping[str, Any]) -> Key:
    """Read a range.

    Raises:
        InputError: An end is missing or no number, they are in the wrong order, or a logarithm does
            not exist.
    """
    low, high, scale = (ends.get(end) for end in ENDS)
    scale = "log" if scale is None else scale
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
    if scale not in SCALES:
        raise InputError(f"search.{name}.scale={scale}: use one of {', '.join(SCALES)}")
    if low is None or high is None or not numbers or not -math.inf < low < high < math.inf:
        raise InputError(f"search.{name}: give numbers, lowest below highest")
    if scale == "log" and low <= 0:
        raise InputError(f"search.{name}.lowest={low}: must be above 0, or give scale: linear")
    return Key(name, (), low, high, scale == "log")
