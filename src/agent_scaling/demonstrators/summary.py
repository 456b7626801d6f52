"""What a run of demonstrations shows: a progress bar while it plays, a table when it is done."""

from __future__ import annotations

import shlex
import statistics
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from agent_scaling.demonstrators.games import GameRecord


class GameProgress:
    """A bar over games, with environment steps per second."""

    def __init__(self, *, total: int, done: int) -> None:
        self._bar = Progress(
            TextColumn("games"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:,.0f} steps/s"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("games", total=total, completed=done, speed=0.0)
        self._steps = 0
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the bar was made."""
        return time.monotonic() - self._started

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, markup=False)

    def add(self, record: GameRecord) -> None:
        """Count a finished game."""
        self._steps += record.env_steps
        self._bar.update(self._task, advance=1, speed=self._steps / self.seconds)


def print_summary(
    game: str, records: list[GameRecord], root: Path, played: int, seconds: float
) -> None:
    """Print totals, scores and ends of the games, and where they are."""
    table = Table(title=f"{len(records)} games ({played} played now, {seconds:.0f} s)")
    for name in ("", "mean", "median", "min", "max"):
        table.add_column(name, justify="right" if name else "left")
    for title, values in (
        ("score", [r.score for r in records]),
        *((name, [r.details[name] for r in records]) for name in records[0].details),
        ("frames", [r.frames for r in records]),
    ):
        mean, middle = statistics.fmean(values), statistics.median(values)
        table.add_row(title, *(f"{x:,.0f}" for x in (mean, middle, min(values), max(values))))
    console = Console(soft_wrap=True)
    console.print(table)
    ends = Counter(r.end.split(",")[0] for r in records).most_common(4)
    console.print("ends: " + ", ".join(f"{end} ({count})" for end, count in ends), markup=False)
    console.print(f"{sum(r.frames for r in records):,} frames in {root}", markup=False)
    source = "" if game == "nethack" else f" source={game}"
    console.print(f"next: agent-scaling shard input={shlex.quote(str(root))}{source} output=shards")
