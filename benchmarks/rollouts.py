"""The environment pool against gymnasium's, and rollouts against a process per game at batch 1.

    python benchmarks/rollouts.py [--games 8] [--workers 1] [--lanes 128] [--block 64] [--rounds 5]
    python benchmarks/rollouts.py --no-policy [--games 8] [--slices 20]

Steps per CPU-second of the whole process tree; each ratio is a median. All environments play the
same games (seeds, character, options) with the same actions, as many of them, and show the same
four observations; gymnasium's do not copy theirs once more. ``raw`` calls NLE's C function and
nothing else, ``worker`` our games' ``step`` in this process, without the pool's pipe; ``still`` is
the pool with games that do nothing, whose cost is that of exchanging orders and reports. They take
turns in slices of --moves moves, so that other work on the machine slows all alike, and each ratio
is of two neighbouring slices. The rollouts take turns in rounds.

The last line is one JSON object: ``pool_vs_async``, ``pool_vs_sync``, ``pool_vs_raw``,
``worker_vs_raw``, ``rollout_vs_published``; ``move_us`` and ``exchange_us``, the CPU microseconds
per move of all games in ``pool`` and in ``still``; ``overhead``, the share of the rollout's CPU
time that is spent neither in the games' processes nor in the network.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import torch
from nle import nethack
from nle.env.tasks import NetHackScore
from policy import pair
from torch import nn

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import action_to_key
from agent_scaling.envs.nethack import NetHack
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.envs.seeds import game_seeds
from agent_scaling.playing.play import play

KEYS = ("tty_chars", "tty_colors", "tty_cursor", "blstats")
SHOWN = ("chars", "colors", "cursor", "blstats")  # the same, as the pool calls them
ACTIONS = 50_000  # drawn in advance, then again from the beginning
PRESSED = [0, 1, 2, 3, 4, 5, 6, 7, 19, 75]  # walk, confirm, search: games that go on


class SeededNetHack(NetHackScore):
    """NetHackChallenge's settings, and the pool's seeds: game g plays g, g + 1000, g + 2000, …"""

    def __init__(self, game: int) -> None:
        super().__init__(
            character="@",
            actions=nethack.ACTIONS,
            allow_all_yn_questions=True,
            allow_all_modes=True,
            penalty_step=0.0,
            max_episode_steps=100_000,
            observation_keys=KEYS,
            fix_moon_phase=True,
        )
        self.next_seed = game

    def reset(self, **kwargs: Any) -> Any:
        """The next game's seeds, then reset."""
        seeds = game_seeds(self.next_seed)
        self.next_seed += 1000
        self.seed(seeds.core, seeds.display, reseed=False, lgen=seeds.levels)
        return super().reset()


def actions_of(games: int) -> np.ndarray:
    """The same for every contestant: [steps, games]."""
    return np.random.default_rng(0).choice(PRESSED, (ACTIONS, games)).astype(np.int64)


def cpu_seconds(processes: set[psutil.Process]) -> float:
    """CPU seconds of this process and of others, to the nanosecond (psutil's are to 10 ms)."""
    threads = [thread for p in processes for thread in Path(f"/proc/{p.pid}/task").iterdir()]
    spent = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    return time.process_time() + spent / 1e9


class Vector:
    """gymnasium's vector environment."""

    def __init__(self, games: int, shared: bool) -> None:
        makers = [lambda game=game: SeededNetHack(game) for game in range(games)]
        self.env: Any = (
            gymnasium.vector.AsyncVectorEnv(makers, shared_memory=True, copy=False)
            if shared
            else gymnasium.vector.SyncVectorEnv(makers, copy=False)
        )
        self.env.reset()
        self.actions, self.games, self.at = actions_of(games), games, 0

    def run(self, moves: int) -> int:
        """Steps made in so many moves of all games."""
        for _ in range(moves):
            self.env.step(self.actions[self.at % ACTIONS])
            self.at += 1
        return moves * self.games

    def close(self) -> None:
        """End it."""
        self.env.close()


class Pooled:
    """Our pool, without a policy."""

    def __init__(
        self, games: int, workers: int, game: str = "nethack", shown: Sequence[str] = SHOWN
    ) -> None:
        self.pool = Pool(game, lanes=games, workers=workers, groups=1, observations=shown)
        self.actions, self.at = actions_of(games).astype(np.int32), 0
        self.seeds = list(range(games))
        for lane in range(games):
            self.pool.assign(lane, lane)
        self.pool.send(0)

    def run(self, moves: int) -> int:
        """Steps made in so many moves of all games."""
        steps = 0
        for _ in range(moves):
            for lane, _ in self.pool.receive(0).ended:
                self.seeds[lane] += 1000
                self.pool.assign(lane, self.seeds[lane])
            ready = self.pool.ready(0)
            self.pool.actions[:] = self.actions[self.at % ACTIONS]
            steps += len(ready)
            self.at += 1
            self.pool.send(0)
        return steps

    def close(self) -> None:
        """End it."""
        self.pool.close()


class Here:
    """Our games in this process: what a worker does between two pipes, or the C function alone."""

    def __init__(self, games: int, raw: bool) -> None:
        shapes = {name: NetHack.observations[name] for name in SHOWN}
        views = {n: np.zeros((games, *shape), dtype) for n, (shape, dtype) in shapes.items()}
        self.games = [NetHack({n: v[game] for n, v in views.items()}) for game in range(games)]
        self.seeds, self.raw = list(range(games)), raw
        for game, seed in zip(self.games, self.seeds, strict=True):
            game.reset(seed)
        self.actions, self.at = actions_of(games).tolist(), 0
        self.keys = action_to_key().tolist()

    def run(self, moves: int) -> int:
        """Steps made in so many moves of all games."""
        move = self.move_raw if self.raw else self.move
        for _ in range(moves):
            move(self.actions[self.at % ACTIONS])
            self.at += 1
        return moves * len(self.games)

    def move(self, actions: list[int]) -> None:
        """One step of each game."""
        for index, (game, action) in enumerate(zip(self.games, actions, strict=True)):
            if game.step(action) is not None:
                self.begin(index)

    def move_raw(self, actions: list[int]) -> None:
        """The same by NLE's C function."""
        for index, (game, action) in enumerate(zip(self.games, actions, strict=True)):
            game._raw.step(self.keys[action])
            if game._raw.done():
                self.begin(index)

    def begin(self, index: int) -> None:
        """Begin the game's next seed."""
        self.seeds[index] += 1000
        self.games[index].reset(self.seeds[index])

    def close(self) -> None:
        """End them."""
        for game in self.games:
            game.close()


def environments(games: int, workers: int, moves: int, slices: int) -> dict[str, list[float]]:
    """Steps per CPU-second, by contestant and slice."""
    makers: dict[str, Callable[[], Any]] = {
        "raw": lambda: Here(games, raw=True),
        "worker": lambda: Here(games, raw=False),
        "pool": lambda: Pooled(games, workers),
        "still": lambda: Pooled(games, workers, "still_game:Still", ["shown"]),
        "sync": lambda: Vector(games, shared=False),
        "async": lambda: Vector(games, shared=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in makers}
    contestants, processes, known = {}, {}, set[psutil.Process]()
    for name, make in makers.items():
        contestants[name] = make()
        processes[name] = set(psutil.Process().children(recursive=True)) - known
        known |= processes[name]
        contestants[name].run(moves)
    for _ in range(slices):
        for name, contestant in contestants.items():
            before = cpu_seconds(processes[name])
            steps = contestant.run(moves)
            rates[name].append(steps / (cpu_seconds(processes[name]) - before))
    for contestant in contestants.values():
        contestant.close()
    return rates


def published_worker(game: int, seconds: float) -> tuple[int, float]:
    """One process of the published way: its game, its copy of the network, batch 1."""
    torch.set_num_threads(1)
    network = pair(512, 1, "cpu")[0].eval()
    env = SeededNetHack(game)
    frame, _ = env.reset()
    state, previous, first, steps = (torch.zeros(1, 1, 512),) * 2, 0, True, 0
    generator = torch.Generator().manual_seed(game)
    began = time.process_time()
    while time.process_time() - began < seconds:
        batch = Batch(
            chars_TBHW=torch.from_numpy(frame["tty_chars"].copy())[None, None],
            colors_TBHW=torch.from_numpy(frame["tty_colors"].copy())[None, None],
            cursor_TB2=torch.from_numpy(frame["tty_cursor"].copy())[None, None],
            prev_action_TB=torch.tensor([[previous]]),
            action_TB=torch.tensor([[-100]]),
            first_TB=torch.tensor([[first]]),
        )
        with torch.no_grad():
            logits, _, state = network(batch, state)
        probs = logits[0, 0].softmax(-1)
        previous = int(torch.multinomial(probs, 1, generator=generator))
        frame, _, first, _, _ = env.step(previous)
        if first:
            frame, _ = env.reset()
        steps += 1
    return steps, time.process_time() - began


def published(seconds: float) -> float:
    """Steps per CPU-second of the published way, start-up left out."""
    context, cores = multiprocessing.get_context("spawn"), len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, context) as executor:
        found = list(executor.map(published_worker, range(cores), [seconds] * cores))
    return sum(steps for steps, _ in found) / sum(cpu for _, cpu in found)


class Timed(nn.Module):
    """A policy that counts the CPU seconds that it takes."""

    spent: list[float]

    def __init__(self, policy: nn.Module, spent: list[float]) -> None:
        super().__init__()
        self.policy, self.spent = policy, spent

    def __deepcopy__(self, memo: Any) -> Timed:
        import copy

        return Timed(copy.deepcopy(self.policy, memo), self.spent)  # one account for all copies

    def initial_state(self, lanes: int) -> Any:
        """The policy's."""
        return self.policy.initial_state(lanes)

    def forward(self, batch: Batch, state: Any) -> Any:
        """The policy's, timed."""
        began = time.thread_time()
        answer = self.policy(batch, state)
        self.spent.append(time.thread_time() - began)
        return answer


def rollouts(policy: nn.Module, lanes: int, block: int, steps: int) -> tuple[float, float]:
    """Steps per CPU-second of an evaluation, start-up included; its overhead's share."""
    spent: list[float] = []
    before = [resource.getrusage(who) for who in WHO]
    table = play(
        Timed(policy, spent), range(lanes), lanes=lanes, block=block, max_episode_steps=steps
    )
    after = [resource.getrusage(who) for who in WHO]
    own, games = (
        a.ru_utime + a.ru_stime - b.ru_utime - b.ru_stime
        for a, b in zip(after, before, strict=True)
    )
    return table["steps"].sum() / (own + games), (own - sum(spent)) / (own + games)


WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main() -> None:
    """Print the rates and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--games", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=128)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-policy", action="store_true", help="the environments alone")
    parser.add_argument("--core", type=int, help="keep all processes on this core")
    args = parser.parse_args()
    if args.core is not None:  # no process wakes on a core whose caches are cold
        os.sched_setaffinity(0, {args.core})
    warnings.filterwarnings("ignore", module="gymnasium")
    rates = environments(args.games, args.workers, args.moves, args.slices)
    ratios, overheads = [], []
    policy = None if args.no_policy else pair(512, 1, "cpu")[1]
    for _ in range(args.rounds if policy else 0):
        peer = published(args.seconds)
        ours, overhead = rollouts(policy, args.lanes, args.block, args.steps)
        ratios.append(ours / peer)
        overheads.append(overhead)
        print(f"rollout: {ours:,.0f}, published: {peer:,.0f} steps per CPU-second", flush=True)

    def ratio(one: str, other: str) -> float:
        pairs = zip(rates[one], rates[other], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 2)

    for name, values in rates.items():
        print(f"{name:>6}: {statistics.median(values):10,.0f} steps per CPU-second, median")
    found = {
        "pool_vs_async": ratio("pool", "async"),
        "pool_vs_sync": ratio("pool", "sync"),
        "pool_vs_raw": ratio("pool", "raw"),
        "worker_vs_raw": ratio("worker", "raw"),
        "move_us": round(args.games / statistics.median(rates["pool"]) * 1e6),
        "exchange_us": round(args.games / statistics.median(rates["still"]) * 1e6),
    }
    if ratios:
        found["rollout_vs_published"] = round(statistics.median(ratios), 2)
        found["overhead"] = round(statistics.median(overheads), 3)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
