"""Settings of glibc's allocator for training; on systems without glibc they do nothing."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # constants of malloc.h


def keep_memory() -> None:
    """Let glibc keep freed memory: each step allocates and frees the same activations.

    By default, freed blocks above 32 MB go back to the kernel, and the next step gets them as new
    zeroed pages: that is up to 40 % of the CPU time of a small policy.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_MMAP_MAX, 0)


def give_back_memory() -> None:
    """Return free memory to the kernel, after a rare task that needs more of it than a step.

    A pass over held-out games takes more than a step and other sizes: the heap that
    :func:`keep_memory` keeps for both grows in jumps, whenever a pass finds no hole that fits.
    This takes about 0.2 s, and the next steps take back the memory that they need.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
