"""Checks the plain values of a run's checkpoint, which may come from anybody, before their use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from torch import Tensor

from agent_scaling.config.check import first_fault
from agent_scaling.policies.checkpoints.load import refuse_nan
from agent_scaling.policies.policy import Policy

T = TypeVar("T")

GENERATORS = {"torch", "cuda", "numpy", "python"}
"""Generators of random numbers, as a rank's state names them."""
MOST = 2**53
"""Above all counts of frames and steps."""
Whole = Annotated[int, Field(strict=True, gt=-MOST, lt=MOST)]
Real = Annotated[float, Field(strict=True)]
Number = Annotated[Real, AfterValidator(lambda value: refuse_nan(value, "the number") or value)]
Plain = bool | Whole | Real | str | None
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


def check_states(value: object, name: str) -> None:
    """Check that a part of a checkpoint holds the states of callbacks, each under its name.

    Lightning takes what is no mapping, or an empty one, for the beginning of a run.

    Raises:
        ValueError: It holds something else, or none.
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{name} holds no state")
    for key, state in value.items():
        if not isinstance(key, str) or not isinstance(state, Mapping):
            raise ValueError(f"{name}.{key} is no state")


def check_generators(value: object) -> None:
    """Check that ``rng`` holds the generators' states of at least one rank.

    Raises:
        ValueError: It does not.
    """
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("rng holds no rank's generators")
    for rank, state in enumerate(value):
        if not isinstance(state, Mapping) or not state.keys() >= GENERATORS:
            raise ValueError(f"rng.{rank} lacks a generator's state")


def check_lanes(state: object, policy: Policy, lanes: object, name: str) -> None:
    """Check that a part of a checkpoint is the policy's state of all ranks' lanes.

    Args:
        state: The part.
        policy: The policy.
        lanes: The lanes of the data's position, or None where it names none.
        name: The part's key.

    Raises:
        ValueError: It has other shapes, or NaN.
    """
    if not isinstance(state, list | tuple):
        raise ValueError(f"{name} is no state of lanes")
    expected = policy.initial_state(1)
    if len(state) != len(expected):
        raise ValueError(f"{name} has {len(state)} parts, the policy's state {len(expected)}")
    seen = {lanes} - {None}
    for number, (part, one) in enumerate(zip(state, expected, strict=True)):
        place = f"{name}.{number}"
        if not isinstance(part, Tensor) or part.is_floating_point() != one.is_floating_point():
            raise ValueError(f"{place} is no tensor of the policy's state")
        seen.add(part.shape[1] if part.ndim > 1 else None)
        if part.ndim != one.ndim or part[:, :1].shape != one.shape or len(seen) > 1:
            of = "" if lanes is None else f" of {lanes} lanes"
            raise ValueError(f"{place} has shape {tuple(part.shape)}: not the policy's state{of}")
        refuse_nan(part, place)
