"""Threads that read, and stop waiting for what they read when nobody waits for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import TracebackType

ENDED: ContextVar[threading.Event] = ContextVar("ended", default=threading.Event())  # noqa: B039
"""Set when nobody waits for this thread's answer any more."""


class ReadingThreads(ThreadPoolExecutor):
    """Threads that stop asking when their block ends: the end of a run waits for no store."""

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
