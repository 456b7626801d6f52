"""Anonymous memory that the pool and its workers share, and its division into arrays."""

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

ALIGNMENT = 64  # a cache line, so that arrays of different processes do not share one

PARKED, STEP, RESET = 0, 1, 2
"""Commands to a lane's game for its group's next move."""

Fields = Mapping[str, tuple[tuple[int, ...], str]]


def control_fields(lanes: int, workers: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the pool's own arrays: each lane's command, and the lane that each worker moves."""
    return {
        "action": ((lanes,), "int32"),
        "command": ((lanes,), "uint8"),
        "seed": ((lanes,), "int64"),
        "moving": ((workers,), "int32"),
    }


def choose_fields(
    observations: Fields, names: Sequence[str] | None
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Select observations by name, in the order of ``names``; None: all.

    Raises:
        InputError: The game lacks one of them.
    """
    chosen = list(observations) if names is None else names
    for name in chosen:
        if name not in observations:
            known = ", ".join(observations)
            raise InputError(f"the policy reads {name!r}, which the game does not show ({known})")
    return {name: observations[name] for name in chosen}


def create_memory(size: int) -> int:
    """Allocate ``size`` anonymous bytes; return their file descriptor.

    The memory is freed when the last process closes the descriptor.
    """
    fd = os.memfd_create("agent-scaling-pool")
    os.ftruncate(fd, size)
    return fd


def memory_size(fields: Fields) -> int:
    """Return the bytes that :func:`map_fields` needs."""
    return sum(_padded(shape, dtype) for shape, dtype in fields.values()) or ALIGNMENT


def map_fields(fd: int, fields: Fields) -> dict[str, npt.NDArray[Any]]:
    """Map the shared bytes as one array per field, in the order of ``fields``."""
    memory = mmap.mmap(fd, memory_size(fields))
    arrays: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for name, (shape, dtype) in fields.items():
        arrays[name] = np.ndarray(shape, dtype, buffer=memory, offset=offset)
        offset += _padded(shape, dtype)
    return arrays


def lane_fields(observations: Fields, lanes: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return a game's fields with the lane as first axis."""
    return {name: ((lanes, *shape), dtype) for name, (shape, dtype) in observations.items()}


def lane_views(arrays: Views, lane: int) -> dict[str, npt.NDArray[Any]]:
    """Return one lane's part of each array."""
    return {name: array[lane] for name, array in arrays.items()}


def deal_lanes(lanes: int, workers: int, groups: int) -> list[list[range]]:
    """Divide the lanes evenly; ``[group][worker]`` is a contiguous range of lanes."""
    return [_split(group, workers) for group in _split(range(lanes), groups)]


def _split(items: range, parts: int) -> list[range]:
    edges = [items.start + len(items) * part // parts for part in range(parts + 1)]
    return [range(edges[part], edges[part + 1]) for part in range(parts)]


def _padded(shape: tuple[int, ...], dtype: str) -> int:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT
