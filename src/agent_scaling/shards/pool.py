"""Converts games in worker processes and hands them out in order, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from agent_scaling.errors import InputError
from agent_scaling.shards.encode import EncodedGame, UnknownKeys, encode_game
from agent_scaling.shards.layout import Layout
from agent_scaling.sources.base import BadGame, Game, Skipped, Source


@dataclass(frozen=True)
class Job:
    """What a worker must know to convert a game."""

    source: Source
    root: Path
    layout: Layout
    chunk_frames: int
    level: int
    unknown_keys: UnknownKeys
    actions: bool = True


_complaints: IO[bytes]


def _start_worker() -> None:
    """End with the parent, and catch what C libraries write to standard error.

    nle's converter stops at damaged bz2 data as if the file ended there; all it does is print.
    """
    global _complaints
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _complaints = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
    os.dup2(_complaints.fileno(), 2)


def convert_game(job: Job, game: Game) -> EncodedGame | Skipped:
    """Convert one game in a worker process; whatever is wrong with it becomes a line."""
    _complaints.truncate(0)
    _complaints.seek(0)
    result: EncodedGame | Skipped
    try:
        result = encode_game(
            job.source,
            job.root,
            game,
            layout=job.layout,
            chunk_frames=job.chunk_frames,
            level=job.level,
            unknown_keys=job.unknown_keys,
            actions=job.actions,
        )
    except (BadGame, OSError, RuntimeError, ValueError) as error:
        result = Skipped(game.parts[0], str(error))
    _complaints.seek(0)
    if b"bzRead" in _complaints.read():
        return Skipped(game.parts[0], "it is damaged: bz2 cannot read it to its end")
    return result


class Conversion(Iterator[EncodedGame | Skipped]):
    """Iterates over the converted games in the order given; a context manager."""

    def __init__(
        self, job: Job, games: Sequence[Game], processes: int | None, console: Console
    ) -> None:
        self.job = job
        cores = processes or len(os.sched_getaffinity(0))
        self.processes = min(cores, len(games))
        self.waiting = deque(games)
        self.running: deque[tuple[Game, Future[EncodedGame | Skipped]]] = deque()
        self.games, self.done, self.frames = len(games), 0, 0
        self.progress = Progress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        # The bar moves by bytes of recordings: games differ a hundredfold in length.
        self.bar = self.progress.add_task("starting", total=sum(game.bytes for game in games))

    def __enter__(self) -> Conversion:
        self.pool = ProcessPoolExecutor(
            self.processes, multiprocessing.get_context("spawn"), initializer=_start_worker
        )
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __next__(self) -> EncodedGame | Skipped:
        # A few games more than processes: enough to keep them busy, not to fill the memory.
        while self.waiting and len(self.running) < 2 * self.processes + 2:
            game = self.waiting.popleft()
            self.running.append((game, self.pool.submit(convert_game, self.job, game)))
        if not self.running:
            raise StopIteration
        game, future = self.running.popleft()
        try:
            result = future.result()
        except BrokenProcessPool:
            games = [game, *(other for other, _ in self.running)][: self.processes]
            files = ", ".join(game.parts[0] for game in games)
            raise InputError(f"a worker process died (memory?) at one of: {files}") from None
        self._advance(game, result)
        return result

    def _advance(self, game: Game, result: EncodedGame | Skipped) -> None:
        self.done += 1
        if isinstance(result, EncodedGame):
            self.frames += result.frames
        seconds = self.progress.tasks[0].elapsed or 1e-9
        text = f"{self.done}/{self.games} games, {self.frames / seconds:,.0f} frames/s"
        self.progress.update(self.bar, advance=game.bytes, description=text)
