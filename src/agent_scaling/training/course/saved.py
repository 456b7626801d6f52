"""Checks the plain values of a run's checkpoint, which may come from anybody, before their use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from agent_scaling.config.check import first_fault

T = TypeVar("T")

MOST = 2**53
"""Above all counts of frames and steps."""
Whole = Annotated[int, Field(strict=True, gt=-MOST, lt=MOST)]
Number = Annotated[float, Field(strict=True)]
Plain = bool | Whole | Number | str | None
"""A value in a table of measurements."""


def state_of(kind: type[T], state: object) -> T:
    """Return a part of a checkpoint as ``kind`` describes it.

    Raises:
        ValueError: It has other values; the message is one line.
    """
    try:
        return TypeAdapter(kind).validate_python(state)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def check_counts(value: object, name: str) -> None:
    """Check that a tree of Lightning's counters holds counts and truth values alone.

    Raises:
        ValueError: It holds something else.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_counts(item, f"{name}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_counts(item, f"{name}.{number}")
    elif not (value is None or isinstance(value, bool)):
        is_count(value, name)


def is_count(value: object, name: str) -> int:
    """Return a count; raise ValueError, with its name, for any other value."""
    found: Any = value
    if type(found) is not int or not 0 <= found < MOST:
        raise ValueError(f"{name} is no count")
    return found
