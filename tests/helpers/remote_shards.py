"""Shards read through a URL and a cache, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards.cache import Cache
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.remote import Remote
from agent_scaling.data.shards.storage import Storage
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import TrainLanes
from tests.data.shards.test_reader import same

WINDOWS = 100  # of 5 lanes and 70 steps: more than an epoch
GIGABYTE = 10**9


def windows(storage: Storage | Path, workers: int = 2, start: int = 0) -> Iterator[Batch]:
    reader = ShardReader(storage, "train")
    frames = [game.frames for game in reader.games]
    order = TrainLanes([game.id for game in reader.games], frames, 5, 3)
    return iter(
        WindowLoader(reader, order, range(5), 70, start_step=start, workers=workers, scores=True)
    )


def remote(url: str, cache: Path, limit: int = GIGABYTE, **options: float) -> Remote:
    return Remote(url, Cache(cache, limit), **{"pause": 0.01, **options})  # type: ignore[arg-type]


def agree(found: Iterator[Batch], expected: list[Batch]) -> bool:
    return all(same(a, b) for a, b in zip(expected, found, strict=False))
