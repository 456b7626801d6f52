"""Play N episodes, given by their seeds, with a policy; one row each."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from agent_scaling.actor import Actor, default_block
from agent_scaling.envs.pool import Pool, Report
from agent_scaling.errors import InputError
from agent_scaling.sampling import Sampling

NETHACK = "agent_scaling.envs.nethack:NetHack"
GAMES_PER_WORKER = 8  # each game loads its own copy of NetHack: more share a core's cache badly
MAX_EPISODE_STEPS = 100_000
COLUMNS = [
    "seed", "return", "steps", "turns", "max_depth", "level", "gold", "max_hp", "hunger", "role",
    "race", "gender", "alignment", "end", "death", "achievements", "core_seed", "display_seed",
]  # fmt: skip
"""Columns of an episode's row; ``docs/rollouts.md`` explains them."""

Traces = dict[int, npt.NDArray[np.float32]]
"""Episode seed → what the policy thought at each step (:meth:`Actor.take_trace`)."""


def play(
    policy: nn.Module,
    seeds: Sequence[int],
    *,
    sampling: Sampling | None = None,
    sampling_seed: int = 0,
    character: str = "@",
    max_episode_steps: int = MAX_EPISODE_STEPS,
    workers: int | None = None,
    lanes: int | None = None,
    block: int | None = None,
    device: torch.device | str = "cpu",
    record_dir: str | Path | None = None,
    traces: Traces | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Play exactly the episodes of ``seeds``; the table does not depend on workers and lanes.

    Args:
        policy: What plays; it is copied, and neither its mode nor any global generator is touched.
        seeds: Episode seeds, ≥ 0, each once.
        sampling: How actions are drawn; softmax at temperature 1 by default.
        sampling_seed: Seed of the sampling noise.
        character: NetHack's ``role-race-gender-alignment``; ``@`` is random.
        max_episode_steps: Step cap of an episode.
        workers: Game processes; by default one per core, and no more than the lanes need.
        lanes: Games at the same time; by default two blocks.
        block: Lanes per call of the policy (see :class:`Actor`); by default the device's.
        device: Where the policy runs.
        record_dir: Record every episode as ttyrec3 there, in NLD-AA's layout.
        traces: Filled with each episode's actions, most probable actions and entropies.
        progress: Called with the episodes done and the steps made so far.

    Returns:
        One row per seed, in their order, with :data:`COLUMNS`.
    """
    if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise InputError("episode seeds must be distinct and not negative")
    device = torch.device(device)
    block = block or default_block(device)
    lanes = max(1, min(lanes or 2 * block, len(seeds)))
    actor = Actor(
        policy,
        lanes,
        sampling=sampling or Sampling(),
        sampling_seed=sampling_seed,
        block=block,
        device=device,
        trace=traces is not None,
    )
    options: dict[str, Any] = {"character": character, "max_episode_steps": max_episode_steps}
    if record_dir is not None:
        options["record_dir"] = str(Path(record_dir).resolve())
    with Pool(
        NETHACK,
        lanes=lanes,
        workers=workers or default_workers(lanes),
        # Turns cost a padded call each: worth it once both groups fill a block.
        groups=2 if lanes >= 2 * block else 1,
        options=options,
    ) as pool:
        records = _Evaluation(pool, actor, list(seeds), traces, progress).run()
    if record_dir is not None:
        for left in Path(record_dir).glob(".partial-*"):  # of workers that were killed
            shutil.rmtree(left, ignore_errors=True)
    rows = [{"seed": seed, **records[seed]} for seed in seeds]
    return pd.DataFrame(rows, columns=COLUMNS)


def default_workers(lanes: int) -> int:
    """One per core, but no more than the lanes need."""
    return max(1, min(len(os.sched_getaffinity(0)), math.ceil(lanes / GAMES_PER_WORKER)))


class _Evaluation:
    """The work list: which lane plays which seed, and what came of it."""

    def __init__(
        self,
        pool: Pool,
        actor: Actor,
        seeds: list[int],
        traces: Traces | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.pool, self.actor, self.traces, self.progress = pool, actor, traces, progress
        self.total = len(seeds)
        self.waiting = iter(seeds)
        self.playing: dict[int, int] = {}
        """Lane → seed."""
        self.records: dict[int, dict[str, Any]] = {}
        self.steps = 0

    def run(self) -> dict[int, dict[str, Any]]:
        """Records by seed, all of them."""
        for lane in range(self.pool.lanes):
            self._begin(lane)
        for group in range(len(self.pool.groups)):
            self.pool.send(group)
        while self.playing:
            for groups in self._turns():
                self._move(groups)
        return self.records

    def _turns(self) -> Iterator[list[int]]:
        """Groups take turns; the last few lanes of all groups share one call of the policy."""
        groups = list(range(len(self.pool.groups)))
        if len(self.playing) <= self.actor.block:
            yield groups
        else:
            yield from ([group] for group in groups)

    def _move(self, groups: list[int]) -> None:
        for group in groups:
            self._settle(self.pool.receive(group))
        ready = np.concatenate([self.pool.ready(group) for group in groups])
        if len(ready):
            self.pool.actions[ready] = self.actor.act(self.pool.observations, ready)
            self.steps += len(ready)
        for group in groups:
            self.pool.send(group)

    def _settle(self, report: Report) -> None:
        for lane in report.restarted:
            self.actor.restart(lane, self.playing[lane])
        for lane, record in report.ended:
            seed = self.playing.pop(lane)
            self.records[seed] = record
            if self.traces is not None:
                self.traces[seed] = self.actor.take_trace(lane)
            self._begin(lane)
        if report.ended and self.progress:
            self.progress(len(self.records), self.steps)

    def _begin(self, lane: int) -> None:
        seed = next(self.waiting, None)
        if seed is not None:
            self.playing[lane] = seed
            self.pool.assign(lane, seed)
            self.actor.restart(lane, seed)
