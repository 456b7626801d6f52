"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1
PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """This process gets the signal when its parent is killed (Linux)."""
    if PRCTL is not None:
        PRCTL(PR_SET_PDEATHSIG, number)
