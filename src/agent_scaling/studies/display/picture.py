"""Draws a sweep as one table that fits the terminal: running runs, finished cells, forecast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent_scaling.runtime.formats import clock, compact, short
from agent_scaling.studies.display.watch import Now, Watch
from agent_scaling.studies.plan_file import Plan

TARGETS = {"eval_loss": ("held-out nats", ".3f"), "return_mean": ("mean return", ".4g")}
"""Columns of the cells that the picture shows, the first that is measured: title and format."""
CELL, NAME = 9, 18
"""Columns of the terminal that a cell and a size of the grid take, at most."""
FEWEST_ROWS = 3
"""Runs, and sizes, that are shown however low the terminal is."""
NO_CELL = "·"


@dataclass(frozen=True)
class Grid:
    """The measured cells as a table: a row per size (and variant), a column per budget.

    Attributes:
        title: The measurement and its unit.
        form: Format of a value.
        values: Mean over seeds, NaN where nothing is measured yet.
        best: The row with the best value of each budget whose cells are all measured.
    """

    title: str
    form: str
    values: pd.DataFrame
    best: Mapping[float, str]


def grid_of(made: Plan, cells: pd.DataFrame) -> Grid | None:
    """Arrange the measured cells; ``None``: none is measured."""
    names = {run.name: label(made, run.variant, run.params) for run in made.runs}
    rows = list(dict.fromkeys(names.values()))
    budgets = sorted({budget for run in made.runs for budget in run.budgets})
    target = next((t for t in TARGETS if len(cells) and cells[t].notna().any()), None)
    if target is None:
        return None
    table = cells.assign(row=cells["run"].map(names))
    values = table.pivot_table(index="row", columns="flops", values=target, aggfunc="mean")
    values = values.reindex(index=rows, columns=budgets)
    planned = {b: {names[run.name] for run in made.runs if b in run.budgets} for b in budgets}
    best = {}
    for budget in budgets:
        column = values[budget].dropna()
        if set(column.index) == planned[budget] and len(column) > 1:
            best[budget] = str(column.idxmin() if target == "eval_loss" else column.idxmax())
    return Grid(*TARGETS[target], values, best)


def label(made: Plan, variant: str, params: int) -> str:
    """Name a row of the grid."""
    return f"{variant} {short(params)}" if made.variants else short(params)


def draw(
    watch: Watch, grid: Grid | None, forecast: str | None, width: int, height: int
) -> RenderableType:
    """Draw the sweep within a terminal's columns and lines; what does not fit is counted."""
    head, running = headline(watch), watch.of("running")
    parts: list[RenderableType] = [Text(line, overflow="ellipsis", no_wrap=True) for line in head]
    left = height - len(parts) - 2 * bool(forecast) - 1
    sizes = 0 if grid is None else len(grid.values)
    most = max(FEWEST_ROWS, left - (min(sizes, left // 2) + 3 if sizes else 0) - 2)
    if running:
        parts += ["", runs_table(running[:most])]
        left -= min(len(running), most) + 2
    if len(running) > most:
        parts.append(Text(f"  and {len(running) - most} more that run", style="dim"))
        left -= 1
    if grid is not None:
        parts += ["", grid_table(grid, width, max(FEWEST_ROWS, left - 3))]
    if forecast:
        parts += ["", Text(forecast, overflow="ellipsis", no_wrap=True)]
    return Group(*parts)


def headline(watch: Watch) -> list[str]:
    """Two lines: runs by state, and the share of all FLOPs with times."""
    counts = [
        (len(watch.of("finished")), f"of {len(watch.now)} runs finished"),
        *((len(watch.of(s)), s) for s in ("running", "to do", "failed", "stopped")),
    ]
    said = [f"{n} {text}" for n, text in counts if n or text.startswith("of")]
    total = sum(now.run.trained for now in watch.now.values())
    times = f"{watch.share:.0%} of {total:.3g} FLOPs, {clock(watch.seconds)} so far"
    left = watch.seconds_left()
    if left is None:
        times += ", time left not known yet"
    elif left:
        times += f", about {clock(left)} left"
    return [f"{watch.made.name}: {', '.join(said)}", times]


def runs_table(running: Iterable[Now]) -> Table:
    """Tabulate the runs that train now."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("run", style="cyan", no_wrap=True, overflow="ellipsis")
    for name in ("size", "budget", "loss", "done", "frames/s", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for now in running:
        table.add_row(*fields(now))
    return table


def fields(now: Now) -> tuple[str, ...]:
    """Return a run's row: name, size, budget, training loss, share, speed and time left."""
    run, standing = now.run, now.standing
    size, budget = short(run.params), compact(run.budgets[-1], 3)
    if standing is None:
        return run.name, size, budget, "", "starts", "", ""
    loss = "" if standing.loss is None else f"{standing.loss:.3f}"
    rate = f"{standing.frames_per_second:,.0f}" if standing.frames_per_second else ""
    left = now.seconds_left
    last = "tested" if standing.doing == "test" else "" if left is None else clock(left)
    return run.name, size, budget, loss, f"{now.share:.0%}", rate, last


def grid_table(grid: Grid, width: int, rows: int) -> Table:
    """Tabulate the finished cells: the highest budgets and the first sizes that there is room for.

    The best of a budget is bold.
    """
    shown = grid.values.iloc[:rows, -max(1, (width - NAME) // CELL) :]
    more = len(grid.values) - len(shown)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(grid.title, no_wrap=True, overflow="ellipsis", max_width=NAME)
    for budget in shown.columns:
        table.add_column(compact(float(budget), 3), justify="right", no_wrap=True)
    for name, line in shown.iterrows():
        table.add_row(str(name), *(cell(grid, str(name), b, v) for b, v in line.items()))
    if more:
        table.add_row(f"and {more} more")
    return table


def cell(grid: Grid, row: str, budget: Any, value: float) -> Text:
    """Format a cell's value; the best of its budget is bold."""
    if value != value:
        return Text(NO_CELL, style="dim")
    best = grid.best.get(budget) == row
    return Text(f"{value:{grid.form}}", style="bold green" if best else "")
