"""Memory that the pool and its workers share, without a name in any file system."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agent_scaling.envs.families import Views
from agent_scaling.runtime.errors import InputError

ALIGNMENT = 64  # a cache line: neighbours in different processes do not share one

PARKED, STEP, RESET = 0, 1, 2
"""What a lane's game does when its group is next told to move."""

Fields = Mapping[str, tuple[tuple[int, ...], str]]


def control_fields(lanes: int, workers: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """The pool's own arrays: what each lane shall do, and what each worker is at."""
    return {
        "action": ((lanes,), "int32"),
        "command": ((lanes,), "uint8"),
        "seed": ((lanes,), "int64"),
        "moving": ((workers,), "int32"),
    }


def choose_fields(
    observations: Fields, names: Sequence[str] | None
) -> dict[str, tuple[tuple[int, ...], str]]:
    """The observations of these names, in their order; None: all.

    Raises:
        InputError: The game does not show one of them.
    """
    chosen = list(observations) if names is None else names
    for name in chosen:
        if name not in observations:
            known = ", ".join(observations)
            raise InputError(f"the policy reads {name!r}, which the game does not show ({known})")
    return {name: observations[name] for name in chosen}


def create_memory(size: int) -> int:
    """A file descriptor of ``size`` anonymous bytes; gone when the last process closes it."""
    fd = os.memfd_create("agent-scaling-pool")
    os.ftruncate(fd, size)
    return fd


def memory_size(fields: Fields) -> int:
    """Bytes that :func:`map_fields` needs."""
    return sum(_padded(shape, dtype) for shape, dtype in fields.values()) or ALIGNMENT


def map_fields(fd: int, fields: Fields) -> dict[str, npt.NDArray[Any]]:
    """One array per field over the shared bytes, in the order of ``fields``."""
    memory = mmap.mmap(fd, memory_size(fields))
    arrays: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for name, (shape, dtype) in fields.items():
        arrays[name] = np.ndarray(shape, dtype, buffer=memory, offset=offset)
        offset += _padded(shape, dtype)
    return arrays


def lane_fields(observations: Fields, lanes: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """A game's fields with the lane as first axis."""
    return {name: ((lanes, *shape), dtype) for name, (shape, dtype) in observations.items()}


def lane_views(arrays: Views, lane: int) -> dict[str, npt.NDArray[Any]]:
    """One lane's part of each array."""
    return {name: array[lane] for name, array in arrays.items()}


def deal_lanes(lanes: int, workers: int, groups: int) -> list[list[range]]:
    """``[group][worker]`` → lanes: contiguous, as even as possible."""
    return [_split(group, workers) for group in _split(range(lanes), groups)]


def _split(items: range, parts: int) -> list[range]:
    edges = [items.start + len(items) * part // parts for part in range(parts + 1)]
    return [range(edges[part], edges[part + 1]) for part in range(parts)]


def _padded(shape: tuple[int, ...], dtype: str) -> int:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT
