"""Atari: our pool against gymnasium's AsyncVectorEnv and EnvPool; our shards against Parquet.

    python benchmarks/atari.py [--env Pong] [--games 8] [--workers 2] [--seconds 3] [--rounds 5]

Environment steps (four console frames each, 84×84 grey) per CPU-second of the process tree, in
rounds that take turns; each ratio is the median of the rounds' ratios. Everybody plays as many
games of the same kind with random actions. The peers stack four frames, as their users need them
to; our policies stack their own. EnvPool is an optional peer: without it its ratio is null.

The data are games of the scripted expert: bytes per frame as shards, and as int16 stacks of four in
a Parquet file, as the paper's release keeps them. The last line is one JSON object:
``env_vs_async``, ``env_vs_envpool``, ``bytes_vs_parquet``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.recordings.atari import AtariSource
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import EvalLanes
from agent_scaling.envs.atari import action_codes, rom_name
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.playing.demonstrators.demonstrate import demonstrate

Mover = Callable[[], None]


def tree_seconds() -> float:
    """CPU seconds of this process and its living descendants."""
    me = psutil.Process()
    times = [process.cpu_times() for process in [me, *me.children(recursive=True)]]
    return sum(t.user + t.system for t in times)


def our_pool(env: str, games: int, workers: int) -> tuple[Mover, Callable[[], None]]:
    pool = Pool(
        "atari",
        lanes=games,
        workers=workers,
        groups=1,
        options={"env": env},
        observations=["frame", "reward"],
    )
    rng, actions = np.random.default_rng(0), len(action_codes(env))
    seeds = iter(range(10**9))
    for lane in range(games):
        pool.assign(lane, next(seeds))

    def move() -> None:
        pool.actions[:] = rng.integers(actions, size=games)
        pool.send(0)
        for lane, _ in pool.receive(0).ended:
            pool.assign(lane, next(seeds))

    return move, pool.close


def gymnasium_game(env: str) -> Any:
    gymnasium.register_envs(ale_py)
    made = gymnasium.make(f"ALE/{env}-v5", frameskip=1, repeat_action_probability=0.25)
    return FrameStackObservation(AtariPreprocessing(made, noop_max=30, frame_skip=4), 4)


def gymnasium_async(env: str, games: int, workers: int) -> tuple[Mover, Callable[[], None]]:
    makers = [lambda: gymnasium_game(env)] * games
    vector = gymnasium.vector.AsyncVectorEnv(makers, shared_memory=True, copy=False)
    vector.reset(seed=0)
    rng, actions = np.random.default_rng(0), len(action_codes(env))
    return lambda: vector.step(rng.integers(actions, size=games)), vector.close


def ale_vector(env: str, games: int, workers: int) -> tuple[Mover, Callable[[], None]]:
    options = {"repeat_action_probability": 0.25, "use_fire_reset": False}
    vector = ale_py.AtariVectorEnv(rom_name(env), games, num_threads=workers, **options)
    vector.reset(seed=0)
    rng, actions = np.random.default_rng(0), len(action_codes(env))
    return lambda: vector.step(rng.integers(actions, size=games)), vector.close


def envpool_vector(env: str, games: int, workers: int) -> tuple[Mover, Callable[[], None]]:
    import envpool

    vector = envpool.make_gymnasium(
        f"{env}-v5", num_envs=games, num_threads=workers, repeat_action_probability=0.25
    )
    vector.reset()
    rng, actions = np.random.default_rng(0), len(action_codes(env))
    return lambda: vector.step(rng.integers(actions, size=games)), vector.close


def speed(move: Mover, games: int, seconds: float) -> float:
    """Steps per CPU-second of the tree, over so many seconds."""
    begin, end, moves = tree_seconds(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        move()
        moves += 1
    return moves * games / (tree_seconds() - begin)


def environments(args: argparse.Namespace) -> dict[str, float | None]:
    makers = {"ours": our_pool, "async": gymnasium_async, "ale": ale_vector}
    try:
        import envpool  # noqa: F401

        makers["envpool"] = envpool_vector
    except (ImportError, FileNotFoundError) as error:
        print(f"without EnvPool: {error}")
    made = {name: maker(args.env, args.games, args.workers) for name, maker in makers.items()}
    found: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(args.rounds):
        for name, (move, _) in made.items():
            found[name].append(speed(move, args.games, args.seconds))
    for _, close in reversed(made.values()):  # the forks of AsyncVectorEnv hold the pool's pipes
        close()
    for name, values in found.items():
        print(f"{name}: {statistics.median(values):,.0f} steps per CPU-second")
    ratios = {
        name: statistics.median(o / p for o, p in zip(found["ours"], values, strict=True))
        for name, values in found.items()
    }
    print(f"ours against AtariVectorEnv: {ratios['ale']:.2f}")
    return {"env_vs_async": ratios["async"], "env_vs_envpool": ratios.get("envpool")}


def parquet_bytes(shards: Path, folder: Path) -> int:
    """Bytes of the same frames as int16 stacks of four, a column of a Parquet file each."""
    path, before = folder / "stacks.parquet", None
    schema = pa.schema([("observation", pa.list_(pa.int16(), 4 * 84 * 84)), ("action", pa.int16())])
    with pq.ParquetWriter(path, schema) as writer:
        for split in ("train", "val"):
            reader = ShardReader(shards, split)
            order = EvalLanes([game.frames for game in reader.games], 1)
            for batch in WindowLoader(reader, order, range(1), 256, end_step=order.steps(256)):
                assert batch.frame_TBHW is not None
                frames, first = batch.frame_TBHW[:, 0].numpy(), batch.first_TB[:, 0].numpy()
                stacks = np.zeros((len(frames), 4, 84, 84), np.int16)
                for t, frame in enumerate(frames):
                    kept = np.zeros((4, 84, 84), np.int16) if first[t] or before is None else before
                    stacks[t, :3], stacks[t, 3] = kept[1:], frame
                    before = stacks[t]
                real = (batch.action_TB[:, 0] >= 0).numpy()
                flat = pa.array(stacks[real].reshape(-1))
                columns = [
                    pa.FixedSizeListArray.from_arrays(flat, 4 * 84 * 84),
                    pa.array(batch.action_TB[:, 0].numpy()[real].astype(np.int16)),
                ]
                writer.write_table(pa.table(columns, schema=schema))
    return path.stat().st_size


def data(env: str, games: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demonstrate(
            game="atari", env=env, games=games, max_steps=1000, output=str(folder / "games")
        )
        begin = time.monotonic()
        made = shard(
            input=str(folder / "games"), output=str(folder / "shards"), source=AtariSource()
        )
        frames = sum(total.frames for total in made.totals.values())
        ours = sum(total.bytes for total in made.totals.values())
        print(f"conversion: {frames / (time.monotonic() - begin):,.0f} frames/s")
        theirs = parquet_bytes(folder / "shards", folder)
        reader = ShardReader(folder / "shards", "train")
        order = EvalLanes([game.frames for game in reader.games], 8)
        begin, seen = time.process_time(), 0
        for batch in WindowLoader(reader, order, range(8), 80, end_step=order.steps(80)):
            seen += batch.steps * batch.lanes
        print(f"reading: {seen / (time.process_time() - begin):,.0f} frames per CPU-second")
    print(f"bytes per frame: {ours / frames:.1f} as shards, {theirs / frames:,.1f} as Parquet")
    return {"bytes_vs_parquet": ours / theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", default="Pong")
    parser.add_argument("--games", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(environments(args) | data(args.env, 4)))


if __name__ == "__main__":
    main()
