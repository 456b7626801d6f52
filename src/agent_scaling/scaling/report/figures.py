"""Draws a fit's figures: one panel per file, PNG and SVG, in colour-blind-safe colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from agent_scaling.scaling.report import marks
from agent_scaling.scaling.runs.lowest import moved
from agent_scaling.scaling.runs.table import Runs

if TYPE_CHECKING:
    from matplotlib.typing import ColorType

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
"""Colours of the Okabe–Ito palette."""

SIZE = (6.0, 4.2)
"""Size of a figure in inches."""

DPI = 150
"""Pixels per inch of a figure."""

DENSE = 2_000
"""Cells above which an SVG holds their lines as pixels: an element for each takes seconds."""

WIDTH = 115
"""Characters per line of the notes below a figure."""


def draw(runs: Runs, fitted: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the fit into ``folder``; return the PNG files (each has an SVG beside it).

    Axes of returns are logarithms of what lies above the return that the laws count from.
    """
    zero, runs = runs.zero, runs.counted()
    fitted = moved(fitted, -zero, runs.highest)
    cells = runs.cells
    panels: dict[str, Callable[[Axes], None]] = {}
    for target, law in fitted["best_of_grid"].items():
        panels[f"profiles_{target}"] = partial(_profiles, cells, fitted, target)
        panels[f"optimum_{target}"] = partial(_optimum, cells, fitted, target)
        for column, quantity in (("params", "N_opt"), ("samples", "D_opt")):
            if law[quantity]:  # None where the table has no samples
                panel = partial(_allocation, fitted, target, column, quantity)
                panels[f"{column}_{target}"] = panel
    if fitted.get("return_against_frames"):
        panels["return_against_frames"] = partial(_against_frames, cells, fitted)
    if fitted.get("return_from_loss"):
        panels["return_from_loss"] = partial(_return_from_loss, cells, fitted)
    return [_save(partial(_above, panel, zero), folder / name) for name, panel in panels.items()]


def _above(panel: Callable[[Axes], None], zero: float, axes: Axes) -> None:
    panel(axes)
    axes.set_ylabel(marks.above(axes.get_ylabel(), zero))


def _save(panel: Callable[[Axes], None], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=SIZE, dpi=DPI, layout="constrained")
    panel(axes)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    layout = figure.get_layout_engine()
    assert layout is not None
    minor = {axis: axis.get_minor_locator() for axis in (axes.xaxis, axes.yaxis)}
    axes.minorticks_off()  # they need no room, and two thirds of the layout's time
    layout.execute(figure)  # once for both files
    figure.set_layout_engine(None)
    for axis, locator in minor.items():
        axis.set_minor_locator(locator)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=DPI)
    plt.close(figure)
    return path.with_suffix(".png")


def _finish(
    axes: Axes, names: tuple[str, str], title: str, notes: Sequence[str] = (), place: str = "best"
) -> None:
    """Set scales, labels and ticks of the axes ``names``; add ``notes`` below and a legend."""
    x, y = names
    axes.set(xscale="log", yscale="log", xlabel=marks.LABELS[x], ylabel=marks.LABELS[y])
    axes.set_title(title, loc="left", fontsize=10, y=1.0)
    for name, axis, ends in ((x, axes.xaxis, axes.get_xlim()), (y, axes.yaxis, axes.get_ylim())):
        inside = [at for at in marks.tick_values(*ends) if ends[0] <= at <= ends[1]]
        axis.set_major_locator(FixedLocator(inside))
        axis.set_major_formatter(FuncFormatter(lambda at, _, n=name: marks.tick_text(n, at)))
        axis.set_minor_formatter(NullFormatter())
    lines = [line for note in notes for line in wrap(note, WIDTH)]
    if lines:
        below: dict[str, Any] = {
            "xy": (0, 0),
            "xycoords": "figure fraction",
            "fontsize": 7,
            "color": "0.35",
        }
        text = axes.annotate("\n".join(lines), xytext=(4, 3), textcoords="offset points", **below)
        text.set_in_layout(False)
        axes.set_xlabel(marks.LABELS[x] + "\n" * len(lines))  # room for the notes
    if axes.get_legend_handles_labels()[1]:
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        axes.legend(fontsize=7, **(beside if place == "beside" else {"loc": place}))


def _line_of(cells: pd.DataFrame) -> dict[str, Any]:
    """Return the style of lines through ``cells``: pixels, in an SVG too, of very many."""
    # lines lie within the axes: the layout need not measure each
    return {"marker": ".", "lw": 0.8, "in_layout": False, "rasterized": len(cells) > DENSE}


def _bars(
    axes: Axes,
    table: pd.DataFrame,
    x: str,
    column: str,
    colour: ColorType,
    rasterized: bool = False,
) -> np.ndarray:
    """Draw bars from ``column``_low to ``column``_high, where known; return the ends, (2, n)."""
    ends = marks.ends(table, column)
    low = np.fmax(ends[0], 1e-3 * table[column].to_numpy(float))  # a log axis has no 0
    known = np.isfinite(ends[1])
    if known.any():
        at = table[x].to_numpy(float)[known]
        bars = axes.vlines(at, low[known], ends[1][known], color=colour, lw=0.9, alpha=0.8)
        bars.set(in_layout=False, rasterized=rasterized)
    return ends


def _profiles(cells: pd.DataFrame, fitted: dict[str, Any], target: str, axes: Axes) -> None:
    known = cells[cells[target] > 0]
    budgets = np.sort(known["flops"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(budgets)))
    aside = marks.aside(known["params"], len(budgets))
    named, style = marks.in_legend(len(budgets)), _line_of(known)
    for i, (budget, shift, colour) in enumerate(zip(budgets, aside, colours, strict=True)):
        cell = known[known["flops"] == budget]
        name = f"{marks.budget(budget)} FLOPs" if i in named else None
        cell = cell.assign(at=cell["params"] * shift)
        axes.plot(cell["at"], cell[target], color=colour, label=name, **style)
        _bars(axes, cell, "at", target, colour, style["rasterized"])
    best = fitted["best_of_grid"][target]["points"]
    ring: dict[str, Any] = {"facecolors": "none", "s": 45, "zorder": 3}
    at = best["params"] * aside
    axes.scatter(at, best["value"], color=ORANGE, label="best of grid", **ring)
    bounded, unbounded = marks.minima(fitted["parabola"][target]["points"], "params")
    if len(bounded):
        at, low, high = (bounded[f"params{end}"] for end in ("", "_low", "_high"))
        cross: dict[str, Any] = {"fmt": "x", "ms": 6, "lw": 0.9, "zorder": 3, "color": ORANGE}
        span = [at - low, high - at]
        axes.errorbar(at, bounded["value"], xerr=span, label="minimum, 90 %", **cross)
    axes.set_xlim(*marks.limits(known["params"]))
    axes.set_ylim(*marks.limits(known[target], marks.ends(known, target)))
    notes = (marks.bars(known, target), marks.left_out(unbounded))
    _finish(axes, ("params", target), f"isoFLOP profiles of {target}", notes, place="beside")


def _optimum(cells: pd.DataFrame, fitted: dict[str, Any], target: str, axes: Axes) -> None:
    law = fitted["best_of_grid"][target]
    points = marks.at_best(law["points"], cells, target)
    axes.plot(points["flops"], points["value"], "o", color=BLUE, label="best of grid")
    shown, ends = [*points["value"]], [*_bars(axes, points, "flops", "value", BLUE).ravel()]
    rows = [row for row in fitted["forecast"] if target in row]
    last = max([points["flops"].max(), *(row["flops"] for row in rows)])
    x = np.geomspace(points["flops"].min(), last, 200)
    for curve, name, dash in marks.curves(fitted, target, x):
        axes.plot(x, curve, color=GREEN if dash == "--" else BLUE, lw=1, ls=dash, label=name)
    for i, row in enumerate(rows):
        low, high = row[f"{target}_interval"]
        label = f"forecast ({fitted['chosen'][target]}), 90 %" if i == 0 else None
        span = [[row[target] - low], [high - row[target]]]
        axes.errorbar(row["flops"], row[target], span, fmt="D", color=ORANGE, ms=4, label=label)
        shown += [row[target], low, high]
        if found := marks.measured(row, target):
            axes.plot(row["flops"], found[0], "k*", ms=10, zorder=4, label=found[1])
            shown.append(found[0])
    axes.set_ylim(*marks.limits(shown, ends))
    empty = "lower left" if target == "loss" else "upper left"  # the forecast is at the right
    notes = [marks.bars(cells, target)]
    _finish(axes, ("flops", target), f"best {target} of each budget", notes, empty)


def _allocation(
    fitted: dict[str, Any], target: str, column: str, quantity: str, axes: Axes
) -> None:
    best, curved = fitted["best_of_grid"][target], fitted["parabola"][target]
    picked = best["points"][best["points"][column] > 0]
    bounded, unbounded = marks.minima(curved["points"], column)
    bare = {"ls": "none", "mfc": "none"}
    looks: tuple[tuple[pd.DataFrame, str, str, dict[str, Any]], ...] = (
        (picked, "best of grid, no interval", BLUE, {"marker": "o", "ls": "none"}),
        (bounded, "minimum, 90 %", ORANGE, {"marker": "s", "ls": "none", "ms": 5}),
        (unbounded, "minimum, interval unbounded", ORANGE, {"marker": "s", "ms": 5} | bare),
    )
    for points, name, colour, style in looks:
        if len(points):
            axes.plot(points["flops"], points[column], color=colour, label=name, **style)
    lines = _bars(axes, bounded, "flops", column, ORANGE).ravel()
    for law, colour in ((best, BLUE), (curved, ORANGE)):
        if (fit := law[quantity]) and fit["exponent"] is not None:
            x = law["points"]["flops"].to_numpy(float)
            y = np.exp(fit["log_coefficient"]) * x ** fit["exponent"]
            axes.plot(x, y, color=colour, lw=1, label=marks.power("C", fit))
            lines = np.append(lines, y)
    shown = pd.concat([part[column] for part in (picked, bounded, unbounded)])
    axes.set_ylim(*marks.limits(shown, lines))
    name = "params" if column == "params" else "frames"
    notes = [(best[quantity] or {}).get("reason", "")]
    _finish(axes, ("flops", name), f"{marks.LABELS[name]} at the best {target}", notes)


def _against_frames(cells: pd.DataFrame, fitted: dict[str, Any], axes: Axes) -> None:
    law = fitted["return_against_frames"]
    known = cells[(cells["return"] > 0) & (cells["samples"] > 0)]
    sizes = np.sort(known["params"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(sizes)))
    named, style = marks.in_legend(len(sizes)), _line_of(known)
    for i, (size, colour) in enumerate(zip(sizes, colours, strict=True)):
        own = known[known["params"] == size].sort_values("samples")
        name = f"{size:,.0f} parameters" if i in named else None
        axes.plot(own["samples"], own["return"], color=colour, label=name, **style)
        _bars(axes, own, "samples", "return", colour, style["rasterized"])
    if best := law["best"]:
        x = best["points"]["frames"].to_numpy(float)
        y = marks.under(np.exp(best["log_coefficient"]) * x ** best["exponent"], fitted)
        label = f"best of all: {marks.power('D', best)}"
        axes.plot(x, y, color=ORANGE, lw=1, ls="--", label=label)
    axes.set_xscale("log")
    axes.set_ylim(*marks.limits(known["return"], marks.ends(known, "return")))
    notes = [marks.bars(known, "return")]
    _finish(axes, ("frames", "return"), "return against frames played", notes, place="beside")


def _return_from_loss(cells: pd.DataFrame, fitted: dict[str, Any], axes: Axes) -> None:
    both = cells[(cells["loss"] > 0) & (cells["return"] > 0)]
    _bars(axes, both, "loss", "return", "0.75")
    axes.hlines(both["return"], *marks.ends(both, "loss"), color="0.75", lw=0.9)
    size = np.log10(both["params"].to_numpy(float))
    dots = axes.scatter(both["loss"], both["return"], c=size, s=12, cmap="viridis", zorder=3)
    plt.colorbar(dots, ax=axes, label="log₁₀ parameters")
    law, best = fitted["return_from_loss"], fitted["best_of_grid"]["loss"]["points"]
    x = np.geomspace(best["loss"].min(), best["loss"].max(), 50)
    y = marks.under(np.exp(law["log_coefficient"]) * x ** law["exponent"], fitted)
    label = f"loss optima of the highest budgets: {marks.power('L', law)}"
    axes.plot(x, y, color=ORANGE, label=label)
    notes = [f"{t}, {text}" for t in ("loss", "return") if (text := marks.bars(both, t))]
    axes.set_xlim(*marks.limits(both["loss"], marks.ends(both, "loss")))
    axes.set_ylim(*marks.limits(both["return"], marks.ends(both, "return")))
    _finish(axes, ("loss", "return"), "return against loss", notes)
