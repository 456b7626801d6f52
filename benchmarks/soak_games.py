"""Millions of steps of games under the pool: what dies, what is lost, what grows?

    python benchmarks/soak.py --games [--steps 2_000_000] [--seed 0] [--into FILE]

Each kind of game has a pool with one worker of 16 games. The pools play in turn, each its share of
the steps. The shares are chosen by what a step costs: an Atari step takes as long as 20 of NetHack.
Keys are drawn uniformly, from all, from those that walk, or from both (uniform keys alone open a
prompt and stay in it for thousands of steps), or chosen by the scripted player. Atari's games do
not write their coloured screen, which no policy reads.

A worker that dies prints its Python stack (faulthandler); the pool replaces it and begins its
episodes again. An episode is lost where it has no record with measures: it took down three workers
by itself. Memory is what a worker has written and shares with nobody, at the end against the first
fifth of the call's steps. ``--into`` adds the counts to those of earlier calls, after each round,
so that a call that is stopped counts too. The exit status is 1 where an episode is lost. The last
line is one JSON object.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nle import nethack
from rich.console import Console
from rich.table import Table

from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.families import Description as Game
from agent_scaling.envs.families import Record, Views, count_actions, find_game
from agent_scaling.envs.goldens import keys
from agent_scaling.envs.nethack import NetHack
from agent_scaling.envs.pool.pool import Pool, Report
from agent_scaling.envs.pool.processes import WorkerLostError
from agent_scaling.playing.demonstrators.nethack import KEYS, NetHackDemonstrator
from agent_scaling.runtime.files import write_file

LANES = 16
PATIENCE_S = 600.0
"""A worker that other programs keep from the cores, for less than this, has not died."""
ROUND = 100_000
"""Steps of all kinds of games together before it is the first one's turn again."""
WARM = 0.2
"""Share of a call's steps after which a worker's memory is first measured."""
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
    """NetHack whose actions are the few keys that walk, search, pick up, descend and escape."""

    num_actions = len(keys())

    def __init__(self, views: Views, **options: Any) -> None:
        self._pressed = self.choose()
        super().__init__(views, **options)

    @staticmethod
    def choose() -> list[int]:
        """Return the keys."""
        return keys()

    def step(self, action: int) -> Record | None:
        """Press one of the keys."""
        return super().step(self._pressed[action])


class MixedNetHack(WalkedNetHack):
    """NetHack whose actions are all keys, and as often those that walk and escape."""

    num_actions = NUM_ACTIONS + NUM_ACTIONS // len(keys()) * len(keys())

    @staticmethod
    def choose() -> list[int]:
        """Return all keys once, and the few keys so often that they are half."""
        return [*range(NUM_ACTIONS), *keys() * (NUM_ACTIONS // len(keys()))]


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


@dataclass(frozen=True)
class Kind:
    """A kind of game."""

    share: float
    """Its share of the steps."""
    game: str
    """Import path or family."""
    options: dict[str, Any] = field(default_factory=dict)


def kinds() -> dict[str, Kind]:
    """Return the kinds of games by name."""
    found = {
        "NetHack, uniform keys": Kind(0.25, "nethack"),
        "NetHack, walking keys": Kind(0.35, "soak_games:WalkedNetHack"),
        "NetHack, uniform and walking keys": Kind(0.27, "soak_games:MixedNetHack"),
        "NetHack, scripted player": Kind(
            0.01, "soak_games:ScriptedNetHack", {"max_episode_steps": 20_000}
        ),
    }
    for level in ("Sokoban1a-v1", "Sokoban4b-v1", "KeyRoom-S5-v0", "Corridor-R3-v0"):
        found[f"MiniHack {level}"] = Kind(0.025, "minihack", {"task": f"MiniHack-{level}"})
    for env in ("Breakout", "MsPacman"):
        found[f"Atari {env}"] = Kind(0.01, "atari", {"env": env})
    return found


class Soaked(Pool):
    """A pool that notes why workers died, and plays uniform actions by itself."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self.counts, self.measured = Counts(), (0, 0.0)
        self._draw = np.random.default_rng(seed)
        shown = tuple(name for name in find_game(kind.game).observations if name != "screen")
        self.width = count_actions(Game(kind.game, kind.options))
        super().__init__(
            kind.game,
            lanes=LANES,
            workers=1,
            groups=1,
            options=kind.options,
            observations=shown,
            patience=PATIENCE_S,
        )
        self.seeds = [seed * SEEDS_APART + lane * 1000 for lane in range(LANES)]
        for lane in range(LANES):
            self.assign(lane, self.seeds[lane])
        self.send(0)

    def play(self, steps: int) -> None:
        """Make about so many steps, and leave the games as they are."""
        moves = self._draw.integers(self.width, size=(-(-steps // LANES), LANES), dtype=np.int32)
        for actions in moves:
            for lane, record in self.receive(0).ended:
                self.counts.episodes += 1
                self.counts.lost += record.get("end") == "crashed"
                self.seeds[lane] += 1
                self.assign(lane, self.seeds[lane])
            self.actions[:] = actions
            self.counts.steps += len(self.ready(0))
            self.send(0)

    def measure(self) -> None:
        """Note the steps and the worker's memory."""
        self.measured = (self.counts.steps, written(self.pids()[0]))

    def counted(self) -> Counts:
        """Return the counts so far, with the memory as it is now."""
        steps, first = self.measured
        # A new worker's memory tells nothing of the old one's.
        if self.counts.steps > steps > 0 and not self.counts.deaths:
            last = written(self.pids()[0])
            self.counts.growth = [(self.counts.steps - steps, first, last)]
        return self.counts

    def _replace(self, index: int, loss: WorkerLostError, report: Report) -> None:
        self.counts.deaths[str(loss)] = self.counts.deaths.get(str(loss), 0) + 1
        super()._replace(index, loss, report)


def written(pid: int) -> float:
    """MB that a process has written and shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("Private_Dirty:"))
    return int(kilobytes) * 1024 / 1e6


def soak(steps: int, seed: int, chosen: dict[str, Kind]) -> Iterator[dict[str, Counts]]:
    """Play the kinds of games in turn; yield the counts so far after each round."""
    os.environ["PYTHONFAULTHANDLER"] = "1"  # of the workers
    rounds = max(2, round(steps / ROUND))
    with ExitStack() as stack:
        pools = {name: stack.enter_context(Soaked(kind, seed)) for name, kind in chosen.items()}
        for number in range(rounds):
            for name, pool in pools.items():
                if number == max(1, round(WARM * rounds)):
                    pool.measure()
                pool.play(round(steps * chosen[name].share / rounds))
            yield {name: pool.counted() for name, pool in pools.items()}


def added(found: dict[str, Counts], before: dict[str, Any]) -> dict[str, Counts]:
    """Add counts to those of earlier calls, as a file holds them."""
    return {name: Counts(**before.get(name, {})).plus(counts) for name, counts in found.items()}


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


def soak_games(steps: int, seed: int, into: Path | None) -> int:
    """Play, print the table, and return the exit status."""
    before = json.loads(into.read_text()) if into and into.exists() else {}
    for found in soak(steps, seed, kinds()):
        total = added(found, before)
        text = json.dumps({name: asdict(counts) for name, counts in total.items()})
        if into:
            write_file(into, text + "\n")
    show(total)
    print(text)
    return int(any(counts.lost for counts in total.values()))
