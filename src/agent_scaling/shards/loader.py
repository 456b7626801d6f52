"""Windows in order, read ahead by background threads: the same bytes for any number of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import zstandard

from agent_scaling.batch import Batch
from agent_scaling.shards.reader import Buffers, WindowReader


class WindowLoader:
    """Iterates over windows ``start_step``, ``start_step + 1``, … of a :class:`WindowReader`.

    With w workers, lane l belongs to thread l mod w for good: a thread reads its lanes' windows in
    order, so that each chunk is decoded once. Decompression and copies release the interpreter.
    """

    def __init__(
        self,
        windows: WindowReader,
        *,
        start_step: int = 0,
        end_step: int | None = None,
        workers: int = 1,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        """``end_step``: None for an endless stream; ``workers``: 0 reads when asked to.

        ``prefetch``: windows that are read ahead.
        """
        self.windows, self.start_step, self.end_step = windows, start_step, end_step
        self.workers = min(workers, len(windows.lanes))
        self.prefetch, self.pin_memory = max(1, prefetch), pin_memory

    def __iter__(self) -> Iterator[Batch]:
        batches = self._threaded() if self.workers else self._in_process()
        return (batch.pin_memory() for batch in batches) if self.pin_memory else batches

    def _steps(self, step: int) -> bool:
        return self.end_step is None or step < self.end_step

    def _in_process(self) -> Iterator[Batch]:
        step = self.start_step
        while self._steps(step):
            yield self.windows.window(step)
            step += 1

    def _threaded(self) -> Iterator[Batch]:
        columns = [range(w, len(self.windows.lanes), self.workers) for w in range(self.workers)]
        ahead: deque[tuple[Buffers, list[Future[None]]]] = deque()
        step = self.start_step
        with ExitStack() as stack:
            # One executor per thread keeps each lane on its thread and its windows in order.
            threads = [
                stack.enter_context(ThreadPoolExecutor(1, f"windows-{w}"))
                for w in range(self.workers)
            ]
            stack.callback(lambda: [f.cancel() for _, futures in ahead for f in futures])
            decompressors = [zstandard.ZstdDecompressor() for _ in threads]
            while True:
                while self._steps(step) and len(ahead) < self.prefetch:
                    buffers = self.windows.pool.take()
                    ahead.append(
                        (
                            buffers,
                            [
                                thread.submit(self._fill, step, buffers, part, zstd)
                                for thread, part, zstd in zip(
                                    threads, columns, decompressors, strict=True
                                )
                            ],
                        )
                    )
                    step += 1
                if not ahead:
                    return
                buffers, futures = ahead.popleft()
                for future in futures:
                    future.result()
                yield self.windows.finish(buffers)

    def _fill(
        self, step: int, buffers: Buffers, columns: range, zstd: zstandard.ZstdDecompressor
    ) -> None:
        for column in columns:
            self.windows.fill(step, buffers, column, zstd)
