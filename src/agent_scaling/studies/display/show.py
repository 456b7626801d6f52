"""Shows a sweep while it runs: one table on a terminal, a line per run and minute elsewhere."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import RenderableType
from rich.live import Live

from agent_scaling.runtime.formats import clock, compact, short
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import plain_console
from agent_scaling.scaling.fitting.lowest import forecast_above
from agent_scaling.scaling.fitting.select import FEWEST
from agent_scaling.scaling.runs.lowest import moved_row
from agent_scaling.scaling.runs.table import tidy
from agent_scaling.studies.display.cells import measured_cells
from agent_scaling.studies.display.picture import TARGETS, draw, fields, grid_of, headline
from agent_scaling.studies.display.watch import Now, Watch
from agent_scaling.studies.plan_file import Plan
from agent_scaling.studies.run_cell import State, log_of

LOOK, LOOK_PER_RUN = 1.0, 0.02
"""Seconds between two looks at the runs' files: at least, and for each run."""
MINUTE, SHARE = 60.0, 0.01
"""Seconds between two lines of a run where the output is no terminal: at least, and as a share of
the time so far, so that a day has about 700."""
WIDE, ENDLESS = 140, 10_000
"""Columns where the output is no terminal, and lines of what may scroll."""
SIZES = 3
"""Sizes that each budget of a forecast needs."""


class Show:
    """The picture of a sweep, kept up to date by a thread.

    Args:
        made: The plan.
        folder: The plan's folder.
        before: The runs' states when the sweep begins.
        ahead: FLOPs to forecast from what is measured so far; ``None``: none are.
    """

    def __init__(
        self, made: Plan, folder: Path, before: Mapping[str, State], ahead: float | None
    ) -> None:
        self.console = plain_console()
        self._ahead, self._folder, self._made = ahead, folder, made
        self._watch = Watch(made, folder)
        for run in made.runs:
            done = before[run.name] == "finished"
            self._watch.now[run.name] = Now(run, "finished", run.trained) if done else Now(run)
        self._cells, self._forecast = measured_cells(made, folder), ""
        self._over, self._said = threading.Event(), 0.0

    @property
    def live(self) -> bool:
        """True where the picture is drawn in place."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        self.console.print(mask(text), soft_wrap=True)

    def watch(self, live: Live | None) -> None:
        """Look at the runs now and then until :meth:`end`."""
        pause = max(LOOK, LOOK_PER_RUN * len(self._made.runs))
        while not self._over.wait(pause):
            with suppress(OSError):  # a file that goes while it is read: next time
                self.look(live)

    def look(self, live: Live | None) -> None:
        """Look at the runs once, and show them."""
        ended = self._watch.update()
        cells = measured_cells(self._made, self._folder)
        if len(cells) != len(self._cells):
            self._cells, before = cells, self._forecast
            self._forecast = self._forecast_now()
            if live is None and self._forecast != before:
                self.say(self._forecast)
        if live is not None:
            live.update(self.picture(), refresh=True)
            return
        for one in ended:
            self.say(self._end_of(one))
        if self._watch.seconds - self._said >= max(MINUTE, SHARE * self._watch.seconds):
            self._said = self._watch.seconds
            for line in self._lines():
                self.say(line)

    def end(self) -> None:
        """End the thread's work."""
        self._over.set()

    def picture(self, whole: bool = False) -> RenderableType:
        """Draw the runs as they were last seen; ``whole``: all sizes, though they may scroll."""
        width, height = self.console.size
        if not self.live:
            width = WIDE
        grid = grid_of(self._made, self._cells)
        return draw(self._watch, grid, self._forecast, width, ENDLESS if whole else height)

    def finish(self) -> None:
        """Print the picture as it is at the end; in a log, without what its lines have told."""
        told, self._forecast = self._forecast, ""
        if not self.live:
            if len(self._made.runs) == 1:
                return
            self.console.width = WIDE
        self.console.print(self.picture(whole=True))
        if self.live and told:
            self.say(f"\n{told}")

    def _lines(self) -> Iterator[str]:
        """Yield a line per running run, and one for the whole."""
        for one in self._watch.of("running"):
            name, size, budget, loss, share, rate, left = fields(one)
            told = [share, loss and f"loss {loss}", rate and f"{rate} frames/s"]
            told.append("is tested" if left == "tested" else left and f"{left} left")
            yield f"running   {name}  ({size}, {budget} FLOPs): {', '.join(filter(None, told))}"
        yield f"in all    {headline(self._watch)[1]}"

    def _end_of(self, one: Now) -> str:
        """Return the line about a run that has ended."""
        took = self._watch.took(one.run.name)
        told = [f"{clock(took)}"] if took else []
        if one.state == "finished":
            own = self._cells[self._cells["run"] == one.run.name].iloc[-1]
            for column, (title, form) in TARGETS.items():
                told += [f"{own[column]:{form}} {title}"] if pd.notna(own[column]) else []
        else:
            told.append(str(log_of(one.run.output(self._folder))))
        return f"{one.state:8}  {one.run.name}  ({', '.join(told)})"

    def _forecast_now(self) -> str:
        """Forecast from the budgets whose cells are all measured; empty: they are too few."""
        if self._ahead is None or self._made.variants or not len(self._cells):
            return ""
        whole = whole_budgets(self._made, self._cells)
        if len(whole) < FEWEST:
            return ""
        with suppress(Exception):  # a preview: what is wrong with the runs, the fit itself will say
            given = self._made.returns
            lowest, highest = given.get("lowest_return"), given.get("highest_return")
            cells = self._cells[self._cells["flops"].isin(whole)]
            runs = tidy(cells, "cells", lowest_return=lowest, highest_return=highest)
            expert = runs.expert(given.get("expert_return"))
            (row,) = forecast_above(runs, np.array([self._ahead]), [], expert)["forecast"]
            return told_forecast(moved_row(row, runs.zero, runs.highest), len(whole))
        return ""


def whole_budgets(made: Plan, cells: pd.DataFrame) -> list[float]:
    """Return the budgets whose cells are all measured, of those with :data:`SIZES` or more."""
    found = []
    for budget in sorted({b for run in made.runs for b in run.budgets}):
        own = cells[cells["flops"] == budget]
        planned = sum(budget in run.budgets for run in made.runs)
        if len(own) == planned and own["params"].nunique() >= SIZES:
            found.append(budget)
    return found


def told_forecast(row: Mapping[str, Any], budgets: int) -> str:
    """Say a forecast in one line."""
    told = []
    for name, unit in (("loss", "nats"), ("return", "points"), ("params", "parameters")):
        if name in row:
            low, high = row[f"{name}_interval"]
            bounded = math.isfinite(low) and math.isfinite(high) and (low > 0 or name == "return")
            ends = f"[{short(low, 3)}, {short(high, 3)}]" if bounded else "[unbounded]"
            told.append(f"{short(row[name], 3)} {unit} {ends}")
    return f"forecast for {compact(row['flops'], 3)} FLOPs, by {budgets} budgets: {', '.join(told)}"


@contextmanager
def showing(
    made: Plan,
    folder: Path,
    before: Mapping[str, State],
    ahead: float | None,
    picture: bool = True,
) -> Iterator[Show]:
    """Show a sweep in the block.

    With ``picture``, the table stays on the terminal at the end, as it is then.
    """
    show = Show(made, folder, before, ahead)
    made_live = Live(console=show.console, auto_refresh=False, transient=True)
    live = made_live if show.live else None
    thread = threading.Thread(target=show.watch, args=(live,), daemon=True)
    with live or nullcontext():
        thread.start()
        try:
            yield show
        finally:
            show.end()
            thread.join()
            show.look(live)
    if picture:
        show.finish()
