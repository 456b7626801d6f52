"""What shards cost and gain against ``nle.dataset.TtyrecDataset``: bytes, reading, converting.

    python benchmarks/data.py

On the reference games ($AGENT_SCALING_REFERENCE, default ../shared); 3 minutes. Rates are frames
per CPU-second of the whole process tree (threads, worker processes, their start included); the
contestants take turns, and a rate is that of their summed frames and seconds. The last line is one
JSON object:
  bytes_vs_bz2       shards' bytes (tars, indexes, manifest) over the bz2 recordings' bytes
  stream_vs_ttyrec   windows [80, 32] by a background thread over TtyrecDataset's [32, 80]
  convert_vs_ttyrec  conversion with encoding over iterating TtyrecDataset, all games each
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

# torch is imported where it is needed: the worker processes of the conversion import this file.
from agent_scaling.data.conversion.shard import shard

STEPS, LANES = 80, 32
ROUNDS = 5
ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Contestant:
    """Frames and CPU seconds of one way of doing it."""

    def __init__(self, name: str) -> None:
        self.name, self.frames, self.seconds = name, 0, 0.0

    def go(self, run: Callable[[], int]) -> None:
        """Let it work once; ``run`` returns frames."""
        before = cpu_seconds()
        self.frames += run()
        self.seconds += cpu_seconds() - before

    @property
    def rate(self) -> float:
        """Frames per CPU-second."""
        return self.frames / self.seconds


class Peer:
    """TtyrecDataset over the reference games."""

    def __init__(self, games: Path, database: Path) -> None:
        from nle import dataset as nld

        self.nld, self.database = nld, str(database)
        with contextlib.redirect_stdout(io.StringIO()):
            nld.db.create(self.database)
            nld.add_nledata_directory(str(games / "nle_data"), "reference", self.database)

    def frames(self, lanes: int, steps: int, gameids: list[int] | None = None) -> Iterator[int]:
        """Frames of each minibatch of one pass (padding not counted)."""
        data = self.nld.TtyrecDataset(
            "reference", lanes, steps, dbfilename=self.database, gameids=gameids, shuffle=False
        )
        for batch in data:
            yield int((batch["gameids"] != 0).sum())

    def games(self) -> list[int]:
        """All games' numbers."""
        return list(self.nld.TtyrecDataset("reference", 1, 1, dbfilename=self.database)._gameids)


def windows(shards: Path, workers: int) -> Iterator[int]:
    """Frames of each training window, without end."""
    from data_modules.shards import ShardsDataModule

    data = ShardsDataModule(
        str(shards), lanes=LANES, unroll_length=STEPS, workers=workers, val_lanes=1
    )
    for batch in data.train_dataloader():
        yield batch.steps * batch.lanes


def convert(games: Path, output: Path) -> int:
    """Frames of a whole conversion by one worker process."""
    with contextlib.redirect_stderr(io.StringIO()):
        manifest = shard(input=str(games), output=str(output), processes=1)
    return sum(total.frames for total in manifest.totals.values())


def measure(games: Path, folder: Path) -> tuple[list[Contestant], dict[str, float]]:
    """Let all contestants run; returns them and the ratios."""
    peer = Peer(games, folder / "reference.db")
    whole, ours = Contestant("TtyrecDataset, one pass"), Contestant("shard, one pass")
    ids = peer.games()
    whole.go(lambda: sum(peer.frames(1, 2048, ids[::2])))
    ours.go(lambda: convert(games, folder / "shards"))
    whole.go(lambda: sum(peer.frames(1, 2048, ids[1::2])))

    names = (f"TtyrecDataset [{LANES}, {STEPS}]", "windows, 1 thread", "windows, in process")
    stream, threaded, in_process = map(Contestant, names)
    sources = {
        stream: (peer.frames(LANES, STEPS), 20),
        threaded: (windows(folder / "shards", workers=1), 600),
        in_process: (windows(folder / "shards", workers=0), 600),
    }
    for source, count in sources.values():
        sum(islice(source, count // 10))  # opened files, first chunks of all lanes
    for _ in range(ROUNDS):
        for contestant, (source, count) in sources.items():
            contestant.go(lambda source=source, count=count: sum(islice(source, count)))  # type: ignore[misc]

    recordings = sum(path.stat().st_size for path in games.rglob("*.bz2"))
    ratios = {
        "bytes_vs_bz2": sum(p.stat().st_size for p in (folder / "shards").iterdir()) / recordings,
        "stream_vs_ttyrec": threaded.rate / stream.rate,
        "convert_vs_ttyrec": ours.rate / whole.rate,
        "stream_in_process_vs_ttyrec": in_process.rate / stream.rate,
    }
    return [whole, ours, stream, threaded, in_process], ratios


def main() -> None:
    """Measure, print a table and the JSON line."""
    shared = Path(os.environ.get("AGENT_SCALING_REFERENCE", ROOT.parent / "shared"))
    with tempfile.TemporaryDirectory() as folder:
        contestants, ratios = measure(shared / "nld-aa-mini" / "train", Path(folder))
    table = Table("", "frames", "CPU s", "frames/CPU-s", title="Frames per CPU-second")
    for one in contestants:
        table.add_row(one.name, f"{one.frames:,}", f"{one.seconds:.1f}", f"{one.rate:,.0f}")
    Console().print(table)
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
