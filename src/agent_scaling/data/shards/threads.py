"""Threads that read from a store and stop retrying when their results are no longer needed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import TracebackType

ENDED: ContextVar[threading.Event] = ContextVar("ended", default=threading.Event())  # noqa: B039
"""Event that is set when this thread's result is no longer needed."""


class ReadingThreads(ThreadPoolExecutor):
    """Thread pool whose threads stop retrying when its block ends, so a run can end at once."""

    def __init__(self, count: int, name: str = "") -> None:
        self._ended = threading.Event()
        super().__init__(count, name, initializer=ENDED.set, initargs=(self._ended,))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._ended.set()
        return super().__exit__(kind, error, trace)
