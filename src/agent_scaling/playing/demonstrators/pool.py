"""Play games in worker processes that never outlive the run that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from agent_scaling.playing.demonstrators.games import GameRecord, GameSpec, find_game


def play_all(game: str, specs: list[GameSpec], workers: int, scratch: Path) -> Iterator[GameRecord]:
    """Play every game; yield each one's record as it ends.

    The games' temporary files go into ``scratch``, whose owner removes it: a killed process
    cannot.
    """
    if not specs:
        return
    pool = ProcessPoolExecutor(
        min(workers, len(specs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(), str(scratch.resolve())),
    )
    try:
        for future in as_completed([pool.submit(_play, game, spec) for spec in specs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _play(game: str, spec: GameSpec) -> GameRecord:
    spec.folder.mkdir()
    return find_game(game).play(spec)


def _start_worker(parent: int, scratch: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool in good order
    tempfile.tempdir = scratch
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """A worker whose parent was killed would wait for its next game for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
