"""What NLD-AA's number of games costs before the first frame: finding them, and opening shards.

    python benchmarks/large.py --shards DIR [--games 109545] [--lanes 256]

Finding: the reference games ($AGENT_SCALING_REFERENCE, default ../shared), linked as often as it
takes, as every part of a conversion finds and plans them. Opening: DIR's shards, linked under other
names, as every rank opens them, and its first batch. Each in a process of its own; the last line is
one JSON object. 110,000 games want as many folders and some minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_scaling.data.conversion.plan import make_plan
from agent_scaling.data.recordings.ttyrec import TtyrecSource
from agent_scaling.data.shards.manifest import (
    GameEntry,
    Manifest,
    ShardEntry,
    load_manifest,
    parse_index,
)
from agent_scaling.data.shards.storage import Folder
from agent_scaling.runtime.files import content_hash
from data_modules.shards import ShardsDataModule

NLD_AA_GAMES = 109_545
SHARD_BYTES = 64_000_000


def link_recordings(count: int, root: Path) -> None:
    """A folder per game, as NLE writes them."""
    reference = Path(os.environ.get("AGENT_SCALING_REFERENCE", "../shared")).resolve()
    games = sorted((reference / "nld-aa-mini" / "train" / "nle_data").iterdir())
    for number, game in zip(range(count), itertools.cycle(games), strict=False):
        folder = root / f"{number:06d}"
        folder.mkdir(parents=True)
        for file in game.iterdir():
            (folder / file.name).symlink_to(file)


def link_shards(count: int, made: Path, root: Path) -> None:
    """Shards of ``count`` games: the first of each split's, again and again under other names."""
    root.mkdir()
    manifest: Manifest = load_manifest(Folder(made))
    splits: dict[str, tuple[ShardEntry, ...]] = {}
    for split, share in (("train", 0.9), ("val", 0.1)):
        entry, entries = manifest.splits[split][0], []
        index = parse_index((made / entry.index).read_bytes())
        for number in range(-(-int(count * share) // entry.games)):
            name = f"{split}-{number:05d}"
            games = tuple(
                replace(g, id=f"{name}/{g.id}", key=f"{name}_{g.key}") for g in index.games
            )
            data = replace(index, games=games).to_json()
            (root / f"{name}.json").write_bytes(data)
            (root / f"{name}.tar").symlink_to((made / entry.tar).resolve())
            entries.append(replace(entry, name=name, index_hash=content_hash(data)))
        splits[split] = tuple(entries)
    (root / "manifest.json").write_bytes(replace(manifest, splits=splits).to_json())


def renamed(game: GameEntry, shard: str) -> GameEntry:
    return replace(game, id=f"{shard}/{game.id}", key=f"{shard}_{game.key}")


def find(root: Path, lanes: int) -> dict[str, int]:
    """What a part does before it converts."""
    source = TtyrecSource()
    found = source.discover(source.locate(str(root)))
    options: dict[str, Any] = {"filters": {}, "settings": {}, "salt": "", "val_fraction": 0.1}
    plan = make_plan(found.games, found.skipped, shard_bytes=SHARD_BYTES, **options)
    return {"games": len(found.games), "shards": len(plan.shards)}


def open_shards(root: Path, lanes: int) -> dict[str, int]:
    """What a rank does before it trains."""
    data = ShardsDataModule(str(root), lanes=lanes)
    games = (*data.train_reader.games, *data.val_reader.games)
    return {"games": len(games), "chunks": sum(len(game.chunks) for game in games)}


def first_batch(root: Path, lanes: int) -> dict[str, int]:
    """As :func:`open_shards`, and a batch."""
    data = ShardsDataModule(str(root), lanes=lanes)
    batch = next(iter(data.train_dataloader()))
    return {"frames": batch.action_TB.numel()}


def measured(job: Callable[[Path, int], dict[str, int]], root: Path, lanes: int) -> dict[str, Any]:
    """What a job gives; its CPU and wall seconds, and the memory that it added at most, MB."""
    began, spent = time.monotonic(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row: dict[str, Any] = job(root, lanes)
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = {"cpu_s": time.process_time() - spent, "wall_s": time.monotonic() - began}
    return (
        {"job": job.__name__}
        | row
        | {k: round(v, 1) for k, v in seconds.items()}
        | {"MB": round(added / 1e3)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=Path, required=True, help="of recorded games")
    parser.add_argument("--games", type=int, default=NLD_AA_GAMES)
    parser.add_argument("--lanes", type=int, default=256)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        link_shards(given.games, given.shards, root / "shards")
        link_recordings(given.games, root / "nle_data")
        jobs = ((find, root), (open_shards, root / "shards"), (first_batch, root / "shards"))
        for job, where in jobs:
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                rows.append(alone.apply(measured, (job, where, given.lanes)))
            print(rows[-1])
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
