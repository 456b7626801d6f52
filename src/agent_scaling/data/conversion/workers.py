"""Converts games in worker processes and yields them in order, with a progress bar."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO

from agent_scaling.data.conversion.encode import EncodedGame, UnknownKeys, encode_game
from agent_scaling.data.conversion.finished_games import Output, read_kept
from agent_scaling.data.conversion.plan import Shard
from agent_scaling.data.recordings.base import Game, Skipped, Source
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.processes import exit_with
from agent_scaling.runtime.progress_bar import Bar

AHEAD = 8
"""Games per process that may be in conversion or wait for an earlier one. About one game in twenty
is five times as long as the mean; the other processes work ahead of it."""


@dataclass(frozen=True)
class Job:
    """The settings with which a worker converts and keeps a game."""

    source: Source
    root: Path
    output: Output
    level: int
    unknown_keys: UnknownKeys
    actions: bool = True


_complaints: IO[bytes]


def _start_worker(alive: Connection) -> None:
    """Make the worker exit with its parent, and capture the standard error of C libraries.

    nle's converter treats damaged bz2 data as the end of the file and only prints a message.
    """
    global _complaints
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool
    exit_with(alive)
    _complaints = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
    os.dup2(_complaints.fileno(), 2)


def convert_game(job: Job, game: Game) -> EncodedGame | Skipped:
    """Convert one game in a worker process; an unusable game is returned as ``Skipped``."""
    _complaints.truncate(0)
    _complaints.seek(0)
    result: EncodedGame | Skipped
    try:
        result = encode_game(
            job.source,
            job.root,
            game,
            layout=job.output.layout,
            chunk_frames=job.output.chunk_frames,
            level=job.level,
            unknown_keys=job.unknown_keys,
            actions=job.actions,
        )
    except Exception as error:  # readers of damaged files raise any
        result = Skipped(game.parts[0], error_line(error))
    _complaints.seek(0)
    if b"bzRead" in _complaints.read():
        return Skipped(game.parts[0], "it is damaged: bz2 cannot read it to its end")
    return result


def convert_and_keep(job: Job, game: Game, path: Path) -> bool:
    """Convert a game and keep it as ``path``; return False where an earlier run has kept it."""
    if read_kept(path, game) is not None:
        return False
    job.output.keep(path, convert_game(job, game))
    return True


@contextlib.contextmanager
def sigterm_ends() -> Iterator[None]:
    """Exit from the block on SIGTERM as on Ctrl-C: cleanly, with status 128 + signal number."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Conversion(Iterator[EncodedGame | Skipped]):
    """Iterator over the converted games of shards, in order; a context manager.

    The worker that converts a game keeps it on disk until its shard is written. A kill therefore
    loses only the games in conversion.
    """

    def __init__(self, job: Job, shards: Sequence[Shard], processes: int | None, bar: Bar) -> None:
        self.job, self.bar = job, bar
        self.waiting = deque(
            (game, job.output.waiting(shard.name, number))
            for shard in shards
            for number, game in enumerate(shard.games)
        )
        self.games, self.done, self.kept, self.frames = len(self.waiting), 0, 0, 0
        self.processes = min(processes or len(os.sched_getaffinity(0)), self.games)
        self.running: deque[tuple[Game, Path, Future[bool]]] = deque()

    def __enter__(self) -> Conversion:
        alive, self.alive = multiprocessing.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(
            self.processes,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(alive,),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and not issubclass(kind, Exception)
        if stopped:
            self.alive.close()  # the workers do not finish their games
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.alive.close()
        if stopped:
            where = self.job.output.directory
            self.bar.console.print(
                f"stopped: the converted games are kept in {where}; the same command resumes",
            )

    def __next__(self) -> EncodedGame | Skipped:
        try:
            while self.waiting and len(self.running) < AHEAD * self.processes:
                game, path = self.waiting.popleft()
                future = self.pool.submit(convert_and_keep, self.job, game, path)
                self.running.append((game, path, future))
            if not self.running:
                raise StopIteration
            game, path, future = self.running[0]
            new = future.result()
        except BrokenProcessPool:
            raise self._broken() from None
        self.running.popleft()
        result = read_kept(path, game)
        if result is None:
            raise InputError(f"{path}.tar has been changed meanwhile: run the same command again")
        self._advance(game, result, new)
        return result

    def _broken(self) -> InputError:
        """Return the error for a worker that died, with the games that it may have converted."""
        time.sleep(0.5)  # a signal to the whole job reaches this process too, with a better message
        lost = [
            game.parts[0]
            for game, _, future in self.running
            if isinstance(future.exception(), BrokenProcessPool)
        ]
        files = ", ".join(lost[: self.processes])
        return InputError(f"a worker process died (memory?){files and f' at one of: {files}'}")

    def _advance(self, game: Game, result: EncodedGame | Skipped, new: bool) -> None:
        self.done += 1
        if not new:  # a kept game took no time and must not enter the estimate of the time left
            self.kept += 1
            self.bar.shrink(game.bytes)
        elif isinstance(result, EncodedGame):
            self.frames += result.frames
        rate = self.frames / self.bar.seconds
        text = f"{self.done}/{self.games} games, {rate:,.0f} frames/s"
        self.bar.move(advance=game.bytes if new else 0, description=text)
