"""What glibc does with freed memory while a policy trains; elsewhere, nothing is done."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_memory() -> None:
    """Let glibc keep what it was given: a step's activations come and go each time.

    By default blocks above 32 MB go back to the kernel when freed, and the next step takes them as
    new zeroed pages: up to 40 % of the CPU time of a small policy.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_MMAP_MAX, 0)


def give_back_memory() -> None:
    """Let the kernel have what is free, after something that is larger than a step and is rare.

    A pass over held-out games takes more than a step and other sizes: the heap that
    :func:`keep_memory` keeps for both grows in jumps, whenever a pass finds no hole that fits.
    About 0.2 s, and the next steps take back what they need.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
