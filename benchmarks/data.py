"""What shards cost and gain against ``nle.dataset.TtyrecDataset``: bytes, reading, converting.

    python benchmarks/data.py

Reads the reference games ($AGENT_SCALING_REFERENCE, default ../shared). Rates are frames per
CPU-second of the whole process tree (all threads, and worker processes where there are any); the
contestants run in turn, several times, and a ratio is that of their summed frames and seconds.
The last line is one JSON object:
  bytes_vs_bz2       shards' bytes (tars and indexes) over the bz2 recordings' bytes
  stream_vs_ttyrec   windows [80, 32] by a background thread over TtyrecDataset's [32, 80]
  convert_vs_ttyrec  conversion with encoding over iterating TtyrecDataset
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from nle import dataset as nld
from rich.console import Console
from rich.table import Table

from agent_scaling.shards.convert import shard
from data_modules.shards import ShardsDataModule

STEPS, LANES = 80, 32
ROUNDS = 5
ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Contestant:
    """Frames and CPU seconds of one way of doing it."""

    def __init__(self, name: str, run: Callable[[], int]) -> None:
        self.name, self.run, self.frames, self.seconds = name, run, 0, 0.0

    def go(self) -> None:
        before = cpu_seconds()
        self.frames += self.run()
        self.seconds += cpu_seconds() - before

    @property
    def rate(self) -> float:
        return self.frames / self.seconds


def ttyrec_batches(games: Path, database: Path) -> Iterator[int]:
    """Endless minibatches of TtyrecDataset as their frames' number (padding not counted)."""
    data = nld.TtyrecDataset(
        "reference", batch_size=LANES, seq_length=STEPS, dbfilename=str(database), shuffle=False
    )
    while True:
        for batch in data:
            yield int((batch["gameids"] != 0).sum())


def windows(shards: Path, workers: int, touch: bool = False) -> Iterator[int]:
    """Endless windows; ``touch`` reads each byte, as a copy to a device would."""
    data = ShardsDataModule(
        str(shards), lanes=LANES, unroll_length=STEPS, workers=workers, val_lanes=1
    )
    for batch in data.train_dataloader():
        if touch:
            batch.chars_TBHW.view(torch.int64).sum()
        yield STEPS * LANES


def quiet_shard(games: Path, output: Path) -> int:
    with contextlib.redirect_stderr(io.StringIO()):
        manifest = shard(input=str(games), output=str(output), processes=1)
    return sum(total.frames for total in manifest.totals.values())


def some_games(games: Path, folder: Path, every: int) -> Path:
    """A directory of links to every ``every``-th game."""
    chosen = folder / f"every_{every}" / "nle_data"
    chosen.mkdir(parents=True)
    for game in sorted((games / "nle_data").iterdir())[::every]:
        (chosen / game.name).symlink_to(game)
    return chosen.parent


def iterate_all(games: Path, database: Path) -> int:
    """Frames of one pass of TtyrecDataset."""
    add_games(games, database)
    data = nld.TtyrecDataset(
        "reference", batch_size=1, seq_length=2048, dbfilename=str(database), shuffle=False
    )
    return sum(int((batch["gameids"] != 0).sum()) for batch in data)


def add_games(games: Path, database: Path) -> None:
    database.unlink(missing_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        nld.db.create(str(database))
        nld.add_nledata_directory(str(games / "nle_data"), "reference", str(database))


def main() -> None:
    torch.set_num_threads(1)
    shared = Path(os.environ.get("AGENT_SCALING_REFERENCE", ROOT.parent / "shared"))
    games = shared / "nld-aa-mini" / "train"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(games, folder)


def measure(games: Path, folder: Path) -> None:
    quiet_shard(games, folder / "shards")
    recordings = sum(path.stat().st_size for path in games.rglob("*.bz2"))
    size = sum(path.stat().st_size for path in (folder / "shards").iterdir())

    add_games(games, folder / "all.db")
    peer = ttyrec_batches(games, folder / "all.db")
    threaded = windows(folder / "shards", workers=1)
    in_process = windows(folder / "shards", workers=0)
    contestants = {
        "peer": Contestant("TtyrecDataset [32, 80]", lambda: sum(islice(peer, 20))),
        "thread": Contestant("windows, 1 thread", lambda: sum(islice(threaded, 800))),
        "process": Contestant("windows, in process", lambda: sum(islice(in_process, 800))),
    }
    part = some_games(games, folder, 12)
    contestants |= {
        "iterate": Contestant(
            "TtyrecDataset, one pass", lambda: iterate_all(part, folder / "p.db")
        ),
        "convert": Contestant("shard, one pass", lambda: convert(part, folder / "part")),
    }
    for _ in range(ROUNDS):
        for contestant in contestants.values():
            contestant.go()
    report(contestants, size, recordings)


def convert(games: Path, output: Path) -> int:
    shutil.rmtree(output, ignore_errors=True)
    return quiet_shard(games, output)


def report(contestants: dict[str, Contestant], size: int, recordings: int) -> None:
    table = Table(title="Frames per CPU-second")
    for column in ("", "frames", "CPU s", "frames/CPU-s"):
        table.add_column(column, justify="left" if not column else "right")
    for one in contestants.values():
        table.add_row(one.name, f"{one.frames:,}", f"{one.seconds:.1f}", f"{one.rate:,.0f}")
    Console().print(table)
    rate = {name: one.rate for name, one in contestants.items()}
    result = {
        "bytes_vs_bz2": size / recordings,
        "stream_vs_ttyrec": rate["thread"] / rate["peer"],
        "convert_vs_ttyrec": rate["convert"] / rate["iterate"],
        "stream_in_process_vs_ttyrec": rate["process"] / rate["peer"],
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
