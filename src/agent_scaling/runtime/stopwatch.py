"""Measures the time that one side waits for the other; any thread may read it at any time."""

from __future__ import annotations

import threading
import time
from types import TracebackType


class Waiting:
    """A context manager around each wait; :meth:`share` counts one that is still going on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._waited = 0.0
        self._began: float | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._began = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._close(time.monotonic())
            self._began = None

    def share(self) -> float:
        """Return the share of the time since the last call that was waiting, 0 to 1."""
        with self._lock:
            now = time.monotonic()
            self._close(now)
            waited, passed = self._waited, now - self._since
            self._waited, self._since = 0.0, now
        return waited / max(passed, 1e-9)

    def _close(self, now: float) -> None:
        """Count the wait in progress, if any, until now; the rest of it counts from here."""
        if self._began is not None:
            self._waited += now - self._began
            self._began = now
