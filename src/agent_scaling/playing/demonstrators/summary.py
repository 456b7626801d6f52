"""Output of ``demonstrate``: a progress bar while it plays, a table when it is done."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

from rich.table import Table

from agent_scaling.config.command import command, setting
from agent_scaling.playing.demonstrators.games import GameRecord
from agent_scaling.runtime.progress_bar import Bar
from agent_scaling.runtime.terminal import plain_console


class GameProgress(Bar):
    """A bar over games, with environment steps per second."""

    def __init__(self, *, total: int, done: int) -> None:
        super().__init__(
            "{task.completed}/{task.total} games, {task.fields[speed]:,.0f} steps/s",
            total=total,
            done=done,
            console=plain_console(stderr=True),
            speed=0.0,
        )
        self._steps = 0

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, soft_wrap=True)

    def add(self, record: GameRecord) -> None:
        """Count a finished game."""
        self._steps += record.env_steps
        self.move(advance=1, speed=self._steps / self.seconds)


def print_summary(
    game: str, records: list[GameRecord], root: Path, played: int, seconds: float
) -> None:
    """Print totals, scores and ends of the games, and where they are."""
    title = f"{len(records)} games ({played} played now, {seconds:.0f} s)"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("", "mean", "median", "min", "max"):
        table.add_column(name, justify="right" if name else "left")
    for title, values in (
        ("score", [r.score for r in records]),
        *((name, [r.details[name] for r in records]) for name in records[0].details),
        ("frames", [r.frames for r in records]),
    ):
        mean, middle = statistics.fmean(values), statistics.median(values)
        table.add_row(title, *(f"{x:,.0f}" for x in (mean, middle, min(values), max(values))))
    console = plain_console(soft_wrap=True)
    console.print(table)
    ends = Counter(r.end.split(",")[0] for r in records).most_common(4)
    console.print("ends: " + ", ".join(f"{end} ({count})" for end, count in ends))
    console.print(f"{sum(r.frames for r in records):,} frames in {root}")
    source = [] if game == "nethack" else [f"source={game}"]
    then = command("shard", setting("input", root), *source, "output=shards")
    console.print(f"next: {then}")
