"""Ranks, the processes of one run: their number, and sums and lists over all of them."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def count_ranks() -> int:
    """Return the number of ranks; 1 in a run of one process."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place; every rank must call it."""
    if count_ranks() > 1:
        dist.all_reduce(tensor)
    return tensor


def gathered(value: T) -> list[T]:
    """Return every rank's value, in the ranks' order; every rank must call it."""
    if count_ranks() == 1:
        return [value]
    values: list[Any] = [None] * count_ranks()
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Return True where any rank's flag is; every rank must call it.

    Hosts exchange it among themselves: none waits for its GPU.
    """
    if count_ranks() == 1:
        return flag
    told = torch.tensor(int(flag))
    dist.all_reduce(told, group=hosts(dist.group.WORLD))
    return bool(told)


@cache
def hosts(world: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """The group of all ranks that exchanges the hosts' memory; every rank must call it."""
    return world if dist.get_backend(world) == "gloo" else dist.new_group(backend="gloo")


def own_cores() -> int:
    """This rank's share of the cores that it may run on: ranks that may run on the same divide
    them. Every rank must call it."""
    cores = sorted(os.sched_getaffinity(0))
    own = (platform.node(), cores)
    return max(1, len(cores) // gathered(own).count(own))
