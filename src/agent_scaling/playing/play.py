"""Plays the episodes of given seeds with a policy, and returns a row for each."""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from agent_scaling.envs.families import NETHACK, Description, find_family, find_game
from agent_scaling.envs.pool.pool import Pool, Report
from agent_scaling.envs.versions import installed_versions, versions_text
from agent_scaling.playing.actor import SCREEN, Actor, default_block
from agent_scaling.playing.options import PlayOptions
from agent_scaling.runtime.errors import InputError

GAMES_PER_WORKER = 8  # more games share a core's caches badly, as each has 0.4 MB of variables

Traces = dict[int, npt.NDArray[Any]]
"""Episode seed → the odds at each step (:meth:`Actor.take_trace`)."""


def play(
    policy: nn.Module,
    seeds: Sequence[int],
    how: PlayOptions | None = None,
    *,
    game: Description | None = None,
    workers: int | None = None,
    lanes: int | None = None,
    cores: int | None = None,
    device: torch.device | str = "cpu",
    patience: float = 60.0,
    record_dir: str | Path | None = None,
    traces: Traces | None = None,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Play exactly the episodes of ``seeds``; the table does not depend on workers and lanes.

    Args:
        policy: The policy that plays; a copy plays, and no global random generator is touched.
        seeds: Episode seeds, ≥ 0, each once.
        how: The options of the episodes, by default all at their defaults; ``seeds`` stands in for
            its ``seed``.
        game: The game to play; by default the one that the policy was trained on.
        workers: Game processes; by default one per core, and no more than the lanes need.
        lanes: Games at the same time; by default a block per core, on a GPU two blocks.
        cores: Cores to divide the work by; by default all that this process may run on.
        device: The device of the policy.
        patience: Seconds after which a silent game process counts as hung.
        record_dir: Record every episode as ttyrec3 there, in NLD-AA's layout.
        traces: Receives each episode's actions, most probable actions and entropies.
        progress: Called with the episodes done and the steps made so far.
        changes: Options that replace those of ``how``, such as ``max_episode_steps``.

    Returns:
        One row per seed, in their order: ``seed``, the game's record of the episode, and the
        ``versions`` that played it (``docs/rollouts.md``).

    Raises:
        InputError: An option is wrong, seeds are negative or stand twice, or the policy's game is
            of no family.
    """
    if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise InputError("episode seeds must be distinct and not negative")
    device, how = torch.device(device), replace(how or PlayOptions(), **changes)
    players = divide(len(seeds), device, workers=workers, lanes=lanes, block=how.block, cores=cores)
    if game is None:
        game = getattr(policy, "game", NETHACK)
        find_family(game.family)
    path = game.family
    options = {**game.options, **how.rules}
    if record_dir is not None:
        options["record_dir"] = str(Path(record_dir).resolve())
    work = _Work(seeds, traces, progress)

    def player(lanes_here: int) -> None:
        if device.type == "cpu":
            # For this thread alone. Layers of 16 rows are too small to share among threads, and on
            # a busy machine the threads of one layer wait for each other.
            torch.set_num_threads(1)
        actor = Actor(
            policy,
            lanes_here,
            sampling=how.drawing,
            sampling_seed=how.sampling_seed,
            block=players.block,
            device=device,
            trace=traces is not None,
        )
        with Pool(
            path,
            lanes=lanes_here,
            workers=players.workers,
            groups=1,
            options=options,
            patience=patience,
            observations=getattr(policy, "observations", SCREEN),
        ) as pool:
            _Player(pool, actor, work).run()

    try:
        run_all(player, players.lanes, work.stop)
    finally:
        if record_dir is not None:
            remove_partial(Path(record_dir), seeds)
    rows = [{"seed": seed, **work.records[seed]} for seed in seeds]
    columns = getattr(find_game(path), "columns", None)
    table = pd.DataFrame(rows, columns=["seed", *columns] if columns else None)
    if text := versions_text(installed_versions(path)):
        table["versions"] = text
    return table


def remove_partial(folder: Path, seeds: Sequence[int]) -> None:
    """Remove the partial recordings of killed workers; other jobs may play other seeds here."""
    for seed in seeds:
        for left in folder.glob(f".partial-{seed}-*"):
            shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True)
class Players:
    """Threads that each play lanes of their own."""

    lanes: list[int]
    """Games that each plays at the same time."""
    workers: int
    """Game processes that each has."""
    block: int
    """Lanes per call of the policy."""


def divide(
    episodes: int,
    device: torch.device,
    *,
    workers: int | None,
    lanes: int | None,
    block: int | None,
    cores: int | None,
) -> Players:
    """Divide episodes among players: one per core, two to keep a GPU busy; see :func:`play`."""
    block, cores = block or default_block(device), cores or len(os.sched_getaffinity(0))
    most = cores if device.type == "cpu" else 2
    lanes = max(1, min(lanes or block * most, episodes))
    players = min(most, math.ceil(lanes / block))
    workers = workers or max(1, min(cores, math.ceil(lanes / GAMES_PER_WORKER)))
    each = [len(part) for part in np.array_split(range(lanes), players)]
    return Players(each, math.ceil(workers / players), block)


def run_all(function: Callable[[int], None], values: list[int], stop: threading.Event) -> None:
    """Run a function in a thread per value; at the first exception, tell the others to stop."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(len(values)) as executor:
            try:
                for future in as_completed([executor.submit(function, value) for value in values]):
                    future.result()
            except BaseException:
                stop.set()
                raise
    finally:
        torch.set_num_threads(threads)  # for threads that have not started


class _Work:
    """The work list that the players share, and its results."""

    def __init__(
        self,
        seeds: Sequence[int],
        traces: Traces | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.stop = threading.Event()
        self.records: dict[int, dict[str, Any]] = {}
        self._waiting, self._traces, self._progress = iter(seeds), traces, progress
        self._steps = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """Return the next seed, if there is one."""
        with self._lock:
            return next(self._waiting, None)

    def give(self, seed: int, record: dict[str, Any], trace: npt.NDArray[Any] | None) -> None:
        """Keep the record of a finished episode."""
        with self._lock:
            self.records[seed] = record
            self._steps += record.get("steps", 0)
            if self._traces is not None and trace is not None:
                self._traces[seed] = trace
            if self._progress:
                self._progress(len(self.records), self._steps)


class _Player:
    """Lanes that play from the work list until it is empty."""

    def __init__(self, pool: Pool, actor: Actor, work: _Work) -> None:
        self.pool, self.actor, self.work = pool, actor, work
        self.playing: dict[int, int] = {}
        """Lane → seed of its episode."""

    def run(self) -> None:
        """Play until the list is empty, or until told to stop."""
        for lane in range(self.pool.lanes):
            self._begin(lane)
        while self.playing and not self.work.stop.is_set():
            self.pool.send(0)
            self._settle(self.pool.receive(0))
            ready = self.pool.ready(0)
            if len(ready):
                self.pool.actions[ready] = self.actor.act(self.pool.observations, ready)

    def _settle(self, report: Report) -> None:
        for lane in report.restarted:
            self.actor.restart(lane, self.playing[lane])
        for lane, record in report.ended:
            trace = self.actor.take_trace(lane)
            self.work.give(self.playing.pop(lane), record, trace)
            self._begin(lane)

    def _begin(self, lane: int) -> None:
        seed = self.work.take()
        if seed is not None:
            self.playing[lane] = seed
            self.pool.assign(lane, seed)
            self.actor.restart(lane, seed)
