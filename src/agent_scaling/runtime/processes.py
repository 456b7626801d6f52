"""Ends processes together with the process that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send this process the signal when its parent dies (Linux)."""
    if PRCTL is not None:
        PRCTL(PR_SET_PDEATHSIG, number)


def exit_with(alive: Connection) -> None:
    """End this process with status 1 as soon as the other end of a pipe closes.

    A pool's owner holds that end: its death, or its ``close``, ends workers in mid-task.
    """

    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            alive.recv()  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
