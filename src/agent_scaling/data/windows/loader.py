"""Windows in order, read ahead by background threads: the same bytes for any number of them."""

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
    """Iterates over windows ``start_step``, ``start_step + 1``, … of ``lanes`` of an order.

    With w workers, lane l belongs to thread l mod w: each chunk is decoded once, by one thread.
    Decompression and copies release the interpreter. What a thread raises, the iterator raises.
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
        """Nothing is read before the first window is asked for.

        Args:
            reader: The split's chunks.
            order: Its data order.
            lanes: Which of the order's lanes are this loader's.
            steps: T, frames of each lane in a window.
            start_step: First window.
            end_step: One past the last; None for an endless stream.
            workers: Background threads; 0 reads when asked to.
            prefetch: Windows to read ahead.
            scores: Give ``score_TB``.
            games: Give ``game_TB``.
            pin_memory: Give batches in page-locked memory.
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
                del batch  # or its memory could not be used for the next but one
        self.pool.clear()  # a pass that has ended needs none until the next

    def _wanted(self, step: int) -> bool:
        return self.end_step is None or step < self.end_step

    def _in_process(self, stream: WindowStream) -> Iterator[int]:
        """Steps whose windows are filled."""
        decoder = self.reader.decoder()
        step = self.start_step
        while self._wanted(step):
            for column in range(len(self.lanes)):
                stream.fill(step, column, decoder)
            yield step
            step += 1

    def _threaded(self, stream: WindowStream) -> Iterator[int]:
        """Steps whose windows the threads have filled, in order."""
        ahead: deque[list[Future[None]]] = deque()
        begin = end = self.start_step
        with ExitStack() as stack:
            # One executor per thread, so that a lane stays with its thread, its windows in order.
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
