"""Writes ``report.html``, a fit as one page that works offline and in print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from agent_scaling.config.command import command as printed
from agent_scaling.config.command import item
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.formats import compact, short
from agent_scaling.scaling.intervals import NORMAL
from agent_scaling.scaling.laws.profiles import best_rows
from agent_scaling.scaling.report import marks
from agent_scaling.scaling.report.plotly_figures import figures
from agent_scaling.scaling.report.reasons import no_law
from agent_scaling.scaling.report.replays import Replay
from agent_scaling.scaling.runs.fit_run import run_name
from agent_scaling.scaling.runs.settings import Settings
from agent_scaling.scaling.runs.table import Runs

FILE = "report.html"
ABSENT = "not measured"
UNKNOWN_STATUS = "not recorded"
ROUNDING = 1e-12
"""Values closer to zero than this are rounding errors and are shown as 0."""

SIGNS = np.array([-1.0, 1.0])


def write_report(
    runs: Runs,
    fitted: dict[str, Any],
    folder: Path,
    replays: Sequence[Replay] = (),
    settings: Settings | None = None,
) -> Path:
    """Write the report of ``fitted`` to ``folder``; return its path.

    ``settings`` are the parameters of the runs, where known. ``replays`` are embedded, each in a
    frame of its own, because MLflow's artifact viewer does not find files beside the report.

    Raises:
        InputError: The folder cannot be written.
    """
    drawn, parabolas = figures(runs, fitted), fitted["parabola"]
    counted = runs.counted().cells
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "span": span, "flops": marks.budget}
    text = (
        resources.files("agent_scaling.scaling.report").joinpath(FILE).read_text(encoding="utf-8")
    )
    page = environment.from_string(text).render(
        title=run_name(fitted["origin"]),
        fit=fitted,
        plotly=get_plotlyjs(),
        figures={s: {n: _script(f) for n, f in group.items()} for s, group in drawn.items()},
        runs=run_table(runs.rows),
        cells=cell_table(runs),
        replays=replays,
        settings=settings,
        flags=by_kind(fitted["flags"]),
        bars={target: marks.bars(counted, target) for target in fitted["best_of_grid"]},
        zero=runs.zero,
        unbounded={t: len(marks.minima(p["points"], "params")[1]) for t, p in parabolas.items()},
        no_law=partial(no_law, fitted),
        command=command(fitted),
        folder=str(folder),
        version=version("agent-scaling"),
    )
    write_file(folder / FILE, page)
    return folder / FILE


def _script(figure: go.Figure) -> str:
    """Return the figure as JSON that is safe inside a ``<script>``."""
    return str(figure.to_json()).replace("</", "<\\/")


def number(value: float | None, digits: int = 3, why: str = ABSENT) -> str:
    """Format a number to significant digits, with k, M, G or T; ``why`` where it is unknown."""
    if value is None or value != value:
        return why
    size = abs(float(value))
    if size < ROUNDING:
        return "0"
    if size < 1e-3 or size >= 1e15:
        return compact(value, digits)
    if 1000 <= size < 1e4:
        return f"{value:,.0f}"
    return short(value, digits, gap=" ")


def span(interval: Sequence[float | None] | None, digits: int = 3) -> str:
    """Format an interval as "low to high", with ∞ for an unbounded end; empty where unknown."""
    if interval is None or any(v != v for v in interval if v is not None):
        return ""
    ends = ("∞" if v is None or abs(v) == float("inf") else number(v, digits) for v in interval)
    return " to ".join(ends)


def run_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a line per run: its size, status, number of budgets, and metrics at the highest one.

    Intervals follow from the run's own standard errors, as those of a cell of one run
    (:mod:`agent_scaling.scaling.runs.table`).
    """
    found = []
    for run, group in rows.groupby("run", sort=False):
        last = group.iloc[int(group["flops"].to_numpy().argmax())]
        status = sorted({str(s) for s in group["status"].dropna()})
        found.append(
            {
                "run": str(run),
                "params": last["params"],
                "status": ", ".join(status) or UNKNOWN_STATUS,
                "budgets": group["flops"].nunique(),
                "flops": last["flops"],
                "loss": last["loss"],
                "loss_interval": tuple(
                    last["loss"] * np.exp(NORMAL * last["loss_se"] / last["loss"] * SIGNS)
                ),
                "return": last["return"],
                "return_interval": tuple(last["return"] + NORMAL * last["return_se"] * SIGNS),
            }
        )
    return sorted(found, key=lambda line: (line["params"], line["run"]))


def cell_table(runs: Runs) -> list[dict[str, Any]]:
    """Return a line per budget and size: frames, loss, return, and marks of the budget's best."""
    cells, counted = runs.cells, runs.counted().cells
    best = {target: best_rows(counted, target) for target in ("loss", "return")}
    names = ["flops", "params", "samples", "loss", "return"]
    marked = cells[names].reset_index(drop=True)
    for target, rows in best.items():
        marked[f"best_{target}"] = marked.index.isin(rows)
        marked[f"{target}_interval"] = list(zip(*marks.ends(cells, target), strict=True))
    lines: list[Any] = marked.to_dict("records")
    return lines


def by_kind(flags: list[str]) -> dict[str, list[str]]:
    """Group flags by their kind, the text before the first colon."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for flag in flags:
        kind, _, rest = flag.partition(": ")
        kinds[kind].append(rest)
    return dict(kinds)


def command(fitted: dict[str, Any]) -> str:
    """Return the command that reproduces this fit."""
    given = {k: v for k, v in fitted["origin"].items() if v is not None}
    if given["source"] == "csv":
        given.pop("tracking_uri", None)
    given["budgets"] = list(map(_short, fitted["budgets"]))
    given["forecast"] = [_short(row["flops"]) for row in fitted["forecast"]]
    if fitted.get("expert_return") is not None:
        given["expert_return"] = _short(fitted["expert_return"])
    return printed("fit", *(f"{key}={item(value)}" for key, value in given.items()))


def _short(value: float) -> float:
    """Round a number to six digits."""
    return float(f"{value:g}")
