"""Millions of steps of games under the pool: what dies, what is lost, what grows?

    python benchmarks/soak.py --games [--minutes 10] [--seed 0] [--into FILE]

Each kind of game has a pool with one worker, and all pools play in turn until the time is up.
Keys are drawn uniformly, from all or from those that walk, or chosen by the scripted player. A
worker that dies prints its Python stack (faulthandler); the pool replaces it and begins its
episodes again. An episode is lost where it has no record with measures: it took down three workers
by itself. Memory is what a worker has written and shares with nobody, at the end against the first
fifth of the time. ``--into`` adds the counts to those of earlier calls. The exit status is 1 where
an episode is lost. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nle import nethack
from rich.console import Console
from rich.table import Table

from agent_scaling.envs.families import Description as Game
from agent_scaling.envs.families import Record, Views, count_actions, find_game
from agent_scaling.envs.goldens import keys
from agent_scaling.envs.nethack import NetHack
from agent_scaling.envs.pool.pool import Pool, Report
from agent_scaling.envs.pool.processes import WorkerLostError
from agent_scaling.playing.demonstrators.nethack import KEYS, NetHackDemonstrator

LANES = 8
SLICE_S = 2.0
"""Seconds that a pool plays before it is the next one's turn."""
WARM = 0.2
"""Share of a worker's steps after which its memory is first measured."""
BOUND = 3.0
"""With no event in n steps, the rate is below 3/n with 95 % confidence."""
SEEDS_APART = 1_000_000


class ScriptedNetHack(NetHack):
    """NetHack that the scripted player plays in the worker; the pool's actions are ignored."""

    def reset(self, seed: int) -> None:
        """Begin the episode of ``seed`` with a new player."""
        super().reset(seed)
        self._player = NetHackDemonstrator(seed)

    def step(self, action: int) -> Record | None:
        """Press the player's key."""
        return super().step(self._player.act({name: self._read[name] for name in KEYS}))

    def _open(self, ttyrec: str | None = None, prefix: str = "") -> None:
        own = {name: np.zeros(**nethack.OBSERVATION_DESC[name]) for name in KEYS}
        self._buffers = {**own, **self._buffers}  # those that the pool shares stay where they are
        self._read: Mapping[str, Any] = self._buffers
        super()._open(ttyrec, prefix)


class WalkedNetHack(NetHack):
    """NetHack whose actions are the few keys that walk, search, pick up and descend."""

    num_actions = len(keys())

    def __init__(self, views: Views, **options: Any) -> None:
        self._walk = keys()
        super().__init__(views, **options)

    def step(self, action: int) -> Record | None:
        """Press one of the few keys."""
        return super().step(self._walk[action])


@dataclass
class Counts:
    """What happened to a kind of game."""

    steps: int = 0
    episodes: int = 0
    lost: int = 0
    deaths: dict[str, int] = field(default_factory=dict)
    """Reason → workers that died of it."""
    growth: list[tuple[int, float, float]] = field(default_factory=list)
    """A call's (steps between the two measures, MB at the first, MB at the last)."""

    def plus(self, other: Counts) -> Counts:
        """Return the sum of both."""
        return Counts(
            self.steps + other.steps,
            self.episodes + other.episodes,
            self.lost + other.lost,
            dict(Counter(self.deaths) + Counter(other.deaths)),
            [*self.growth, *other.growth],
        )


def contestants() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the kinds of games: name → import path or family, options."""
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "NetHack, uniform keys": ("nethack", {}),
        "NetHack, walking keys": ("soak_games:WalkedNetHack", {}),
        "NetHack, scripted player": ("soak_games:ScriptedNetHack", {"max_episode_steps": 20_000}),
    }
    for level in ("Sokoban1a-v1", "Sokoban4b-v1", "KeyRoom-S5-v0", "Corridor-R3-v0"):
        found[f"MiniHack {level}"] = ("minihack", {"task": f"MiniHack-{level}"})
    for env in ("Breakout", "MsPacman"):
        found[f"Atari {env}"] = ("atari", {"env": env})
    return found


class Soaked(Pool):
    """A pool that notes why workers died, and plays uniform actions by itself."""

    def __init__(self, game: str, options: dict[str, Any], seed: int) -> None:
        self.counts, self.measured = Counts(), (0, 0.0)
        self._draw = np.random.default_rng(seed)
        shown = tuple(find_game(game).observations)
        self.width = count_actions(Game(game, options))
        super().__init__(
            game, lanes=LANES, workers=1, groups=1, options=options, observations=shown
        )
        self.seeds = [seed * SEEDS_APART + lane * 1000 for lane in range(LANES)]
        for lane in range(LANES):
            self.assign(lane, self.seeds[lane])
        self.send(0)

    def play(self, seconds: float) -> None:
        """Play for so long, and leave the games as they are."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for lane, record in self.receive(0).ended:
                self.counts.episodes += 1
                self.counts.lost += record["end"] == "crashed"
                self.seeds[lane] += 1
                self.assign(lane, self.seeds[lane])
            ready = self.ready(0)
            self.actions[ready] = self._draw.integers(self.width, size=len(ready))
            self.counts.steps += len(ready)
            self.send(0)

    def measure(self) -> None:
        """Note the steps and the worker's memory."""
        self.measured = (self.counts.steps, written(self.pids()[0]))

    def finish(self) -> Counts:
        """Measure the memory once more, and end the worker."""
        steps, first = self.measured
        if steps and not self.counts.deaths:  # a new worker's memory tells nothing of the old one's
            self.counts.growth.append((self.counts.steps - steps, first, written(self.pids()[0])))
        self.receive(0)
        self.close()
        return self.counts

    def _replace(self, index: int, loss: WorkerLostError, report: Report) -> None:
        self.counts.deaths[str(loss)] = self.counts.deaths.get(str(loss), 0) + 1
        super()._replace(index, loss, report)


def written(pid: int) -> float:
    """MB that a process has written and shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("Private_Dirty:"))
    return int(kilobytes) * 1024 / 1e6


def soak(minutes: float, seed: int) -> dict[str, Counts]:
    """Play all kinds of games in turn."""
    os.environ["PYTHONFAULTHANDLER"] = "1"  # of the workers
    pools = {name: Soaked(*which, seed) for name, which in contestants().items()}
    began = time.monotonic()
    warm = False
    while (spent := time.monotonic() - began) < minutes * 60:
        for pool in pools.values():
            if not warm and spent > WARM * minutes * 60:
                pool.measure()
            pool.play(SLICE_S)
        warm = warm or spent > WARM * minutes * 60
    return {name: pool.finish() for name, pool in pools.items()}


def added(found: dict[str, Counts], into: Path) -> dict[str, Counts]:
    """Add counts to those in a file, and return the sums."""
    before = json.loads(into.read_text()) if into.exists() else {}
    total = {name: Counts(**before.get(name, {})).plus(counts) for name, counts in found.items()}
    into.write_text(json.dumps({name: asdict(counts) for name, counts in total.items()}) + "\n")
    return total


def rate(deaths: int, steps: int) -> str:
    """Worker deaths per 10⁸ steps."""
    each = 1e8 / max(1, steps)
    return f"{deaths * each:.1f}" if deaths else f"0 (< {BOUND * each:.0f})"


def growth(counts: Counts) -> str:
    """MB per 10⁶ steps, mean over calls with its standard error."""
    values = [(last - first) / steps * 1e6 for steps, first, last in counts.growth if steps]
    if not values:
        return "–"
    error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.2f}{error}"


def show(total: dict[str, Counts]) -> None:
    """Print the table."""
    columns = ("games", "steps", "episodes", "deaths", "per 1e8", "lost", "MB", "MB per 1e6")
    table = Table(*columns, title="games under the pool")
    for name, counts in total.items():
        deaths = sum(counts.deaths.values())
        largest = max((last for _, _, last in counts.growth), default=0.0)
        table.add_row(
            name, f"{counts.steps:,}", f"{counts.episodes:,}", str(deaths),
            rate(deaths, counts.steps), str(counts.lost), f"{largest:.0f}", growth(counts),
        )  # fmt: skip
    steps = sum(counts.steps for counts in total.values())
    deaths = sum(sum(counts.deaths.values()) for counts in total.values())
    table.add_section()
    table.add_row(
        "all", f"{steps:,}", f"{sum(c.episodes for c in total.values()):,}", str(deaths),
        rate(deaths, steps), str(sum(c.lost for c in total.values())), "", "",
    )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for name, counts in total.items():
        for reason, times in counts.deaths.items():
            console.print(f"{name}: {times} × {reason}")


def soak_games(minutes: float, seed: int, into: Path | None) -> int:
    """Play, print the table, and return the exit status."""
    found = soak(minutes, seed)
    total = added(found, into) if into else found
    show(total)
    print(json.dumps({name: asdict(counts) for name, counts in total.items()}))
    return int(any(counts.lost for counts in total.values()))
