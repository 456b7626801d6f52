"""Play games in worker processes that never outlive the run that started them."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path

from agent_scaling.playing.demonstrators.games import GameRecord, GameSpec, find_game
from agent_scaling.runtime.processes import exit_with


def play_all(game: str, specs: list[GameSpec], workers: int, scratch: Path) -> Iterator[GameRecord]:
    """Play every game; yield each one's record as it ends.

    The games' temporary files go into ``scratch``. Its owner removes it, because a killed process
    cannot.
    """
    if not specs:
        return
    watched, held = multiprocessing.Pipe(duplex=False)  # the workers end when `held` closes
    pool = ProcessPoolExecutor(
        min(workers, len(specs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(watched, str(scratch.resolve())),
    )
    try:
        for future in as_completed([pool.submit(_play, game, spec) for spec in specs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        watched.close()


def _play(game: str, spec: GameSpec) -> GameRecord:
    spec.folder.mkdir()
    return find_game(game).play(spec)


def _start_worker(alive: Connection, scratch: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool in order
    tempfile.tempdir = scratch
    exit_with(alive)
