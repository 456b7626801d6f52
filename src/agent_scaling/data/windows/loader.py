"""Loads windows in order, ahead of use, in any number of threads without changing a byte."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.threads import ReadingThreads
from agent_scaling.data.windows.windows import BufferPool, Order, WindowStream


class WindowLoader:
    """Iterable over windows ``start_step``, ``start_step + 1``, … of ``lanes`` of an order.

    With w workers, lane l belongs to thread l mod w, so one thread decodes each chunk, once.
    Decompression and copies release the interpreter's lock. The iterator re-raises a thread's
    exception.
    """

    def __init__(
        self,
        reader: ShardReader,
        order: Order,
        lanes: range,
        steps: int,
        *,
        start_step: int = 0,
        end_step: int | None = None,
        workers: int = 1,
        prefetch: int = 2,
        scores: bool = False,
        games: bool = False,
        pin_memory: bool = False,
    ) -> None:
        """Prepare the loader; reading starts with the first window requested.

        Args:
            reader: Reader of the split's chunks.
            order: Data order of the split.
            lanes: The order's lanes that this loader reads.
            steps: T, frames of each lane in a window.
            start_step: First window.
            end_step: One past the last; None for an endless stream.
            workers: Background threads; 0 reads in the caller's thread, on demand.
            prefetch: Number of windows to read ahead.
            scores: Include ``score_TB``.
            games: Include ``game_TB``.
            pin_memory: Return batches in page-locked memory.
        """
        self.reader, self.order, self.lanes, self.steps = reader, order, lanes, steps
        self.start_step, self.end_step = start_step, end_step
        self.workers, self.prefetch = min(workers, len(lanes)), max(1, prefetch)
        self.scores, self.games, self.pin_memory = scores, games, pin_memory
        self.pool = BufferPool(reader.layout, steps, len(lanes))

    def __iter__(self) -> Iterator[Batch]:
        stream = WindowStream(
            self.reader,
            self.order,
            self.lanes,
            self.pool,
            self.start_step,
            self.end_step,
            self.games,
        )
        with closing(stream):
            for step in self._in_process(stream) if not self.workers else self._threaded(stream):
                batch = stream.batch(step, self.scores)
                yield batch.pin_memory() if self.pin_memory else batch
                del batch  # so that its memory can be reused
        self.pool.clear()  # the memory is not needed before the next pass

    def _wanted(self, step: int) -> bool:
        return self.end_step is None or step < self.end_step

    def _in_process(self, stream: WindowStream) -> Iterator[int]:
        """Fill windows in this thread; yield each step whose window is filled."""
        decoder = self.reader.decoder()
        step = self.start_step
        while self._wanted(step):
            for column in range(len(self.lanes)):
                stream.fill(step, column, decoder)
            yield step
            step += 1

    def _threaded(self, stream: WindowStream) -> Iterator[int]:
        """Fill windows in threads; yield each step whose window is filled, in order."""
        ahead: deque[list[Future[None]]] = deque()
        begin = end = self.start_step
        with ExitStack() as stack:
            # One executor per thread keeps each lane in one thread, with its windows in order.
            executors = [
                stack.enter_context(ReadingThreads(1, f"windows-{worker}"))
                for worker in range(self.workers)
            ]
            stack.callback(lambda: [future.cancel() for futures in ahead for future in futures])
            decoders = [self.reader.decoder() for _ in executors]

            def part(step: int, worker: int) -> None:
                for column in range(worker, len(self.lanes), self.workers):
                    stream.fill(step, column, decoders[worker])

            while True:
                while self._wanted(end) and end - begin < self.prefetch:
                    ahead.append([e.submit(part, end, w) for w, e in enumerate(executors)])
                    end += 1
                if not ahead:
                    return
                for future in ahead.popleft():
                    future.result()
                yield begin
                begin += 1
