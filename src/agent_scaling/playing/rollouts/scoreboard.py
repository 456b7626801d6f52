"""Terminal output of a rollout: its progress, and its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from agent_scaling.playing.rollouts.tables import MEASURES
from agent_scaling.runtime.progress_bar import Bar
from agent_scaling.runtime.terminal import plain_console


class EpisodeProgress(Bar):
    """A bar over episodes, with steps per second."""

    def __init__(self, episodes: int) -> None:
        super().__init__(
            "{task.completed}/{task.total} episodes, {task.fields[speed]:,.0f} steps/s",
            total=episodes,
            console=plain_console(stderr=True),
            transient=True,
            speed=0.0,
        )

    def update(self, done: int, steps: int) -> None:
        """Show the progress of the evaluation."""
        self.move(completed=done, speed=steps / self.seconds)


def print_summary(
    summary: dict[str, Any], table: pd.DataFrame, seconds: float | None, folder: Path
) -> None:
    """Print the measures, returns by role, ends of the episodes, and the time taken."""
    console = plain_console()
    shown = Table("", "mean", "± se", "90 % interval", "median", title="episodes")
    for name in MEASURES:
        if name in summary:
            shown.add_row(name, *_cells(summary[name], 4 if name == "progression" else 1))
    shown.add_section()
    if "solved" in summary:
        shown.add_row("solved", f"{summary['solved']:.1%}")
        shown.add_section()
    for role, entry in summary["roles"].items():
        shown.add_row(f"return, {role} ×{entry['episodes']}", *_cells(entry["return"]))
    console.print(shown)
    ends = ", ".join(f"{end} {count}" for end, count in summary["ends"].items())
    steps = int(table["steps"].sum())
    took = f" in {seconds:.0f} s ({steps / seconds:,.0f}/s)" if seconds else ""
    console.print(f"{summary['episodes']} episodes ({ends}), {steps:,} steps{took}")
    console.print(f"table: {folder / 'episodes.parquet'}", soft_wrap=True)


def _cells(entry: dict[str, Any], digits: int = 1) -> list[str]:
    """Return mean, error, interval and median as text; a single episode has two of them."""

    def text(value: float) -> str:
        return f"{value:,.{digits}f}"

    interval = "–" if entry["interval"] is None else " … ".join(map(text, entry["interval"]))
    error = "–" if entry["se"] is None else text(entry["se"])
    return [text(entry["mean"]), error, interval, text(entry["median"])]
