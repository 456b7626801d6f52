"""Figures of a fit: one panel per file, PNG and SVG, in colours that colour-blind readers tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    StrMethodFormatter,
)

from agent_scaling.scaling.runs import Runs

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
"""Of the Okabe–Ito palette."""

SIZE = (6.0, 4.2)
"""Inches; 600 pixels wide at 100 dpi."""

FEW = 200
"""Axes that span less have marks at 1, 2 and 5 of each decade; others at decades."""

LABELS = {
    "loss": "loss (nats per action)",
    "return": "return",
    "params": "parameters",
    "frames": "frames",
    "flops": "FLOPs",
}


def draw(runs: Runs, fitted: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what was fitted into ``folder``; returns the PNG files (each has an SVG beside it)."""
    panels: dict[str, Callable[[Axes], None]] = {}
    for target, law in fitted["best_of_grid"].items():
        panels[f"profiles_{target}"] = _profiles(runs.cells, fitted, target)
        panels[f"optimum_{target}"] = _optimum(law["points"], fitted, target)
        for column, quantity in (("params", "N_opt"), ("samples", "D_opt")):
            if law[quantity]:  # None where the table has no samples
                panels[f"{column}_{target}"] = _allocation(fitted, target, column, quantity)
    if fitted.get("return_against_frames"):
        panels["return_against_frames"] = _against_frames(runs.cells, fitted)
    if fitted.get("return_from_loss"):
        panels["return_from_loss"] = _return_from_loss(runs.cells, fitted)
    return [_save(panel, folder / name) for name, panel in panels.items()]


def _save(panel: Callable[[Axes], None], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    panel(axes)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)
    return path.with_suffix(".png")


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=LABELS[x], ylabel=LABELS[y])
    axes.set_title(title, loc="left", fontsize=10)
    for name, axis, (low, high) in (
        (x, axes.xaxis, axes.get_xlim()),
        (y, axes.yaxis, axes.get_ylim()),
    ):
        few = name in ("loss", "return") or high / low < FEW
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        if name in ("loss", "return"):
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        elif name == "flops":
            axis.set_major_formatter(
                FuncFormatter(lambda flops, _: f"{flops:.0e}".replace("e+", "e"))
            )
        else:
            axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())


def _profiles(cells: pd.DataFrame, fitted: dict[str, Any], target: str) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        known = cells[cells[target] > 0]
        budgets = np.sort(known["flops"].unique())
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(budgets)))
        for budget, colour in zip(budgets, colours, strict=True):
            cell = known[known["flops"] == budget]
            axes.plot(
                cell["params"],
                cell[target],
                ".-",
                color=colour,
                lw=0.8,
                label=f"{budget:.2g}".replace("e+", "e"),
            )
            if (cell["runs"] > 1).any():
                axes.vlines(cell["params"], *ends(cell, target), color=colour, lw=0.8)
        for points, marker, name in (
            (fitted["best_of_grid"][target]["points"], "o", "best of grid"),
            (fitted["parabola"][target]["points"], "x", "parabola"),
        ):
            shown = points if "flag" not in points else points[points["flag"] == ""]
            look = {"facecolors": "none"} if marker == "o" else {}
            style: dict[str, Any] = {"marker": marker, "s": 45, "zorder": 3, "label": name} | look
            axes.scatter(shown["params"], shown["value"], color=ORANGE, **style)
        _label(axes, "params", target, f"isoFLOP profiles of {target}, by FLOPs")
        axes.legend(fontsize=6, ncols=2)

    return panel


def _optimum(points: pd.DataFrame, fitted: dict[str, Any], target: str) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        axes.plot(points["flops"], points["value"], "o", color=BLUE, label="best of grid")
        rows = [row for row in fitted["forecast"] if target in row]
        last = max([points["flops"].max(), *(row["flops"] for row in rows)])
        x = np.geomspace(points["flops"].min(), last, 200)
        law = fitted["best_of_grid"][target]["optimum"]
        line = np.exp(law["log_coefficient"]) * x ** law["exponent"]
        axes.plot(x, line, color=GREEN, lw=1, ls="--", label=f"power law, C^{law['exponent']:.3f}")
        if floor := fitted["saturating"].get(target):
            curve, label = saturating(floor, x)
            axes.plot(x, curve, color=BLUE, lw=1, label=label)
        for i, row in enumerate(rows):
            low, high = row[f"{target}_interval"]
            name = f"forecast ({fitted['chosen'][target]})" if i == 0 else None
            span = [[row[target] - low], [high - row[target]]]
            axes.errorbar(row["flops"], row[target], span, fmt="D", color=ORANGE, ms=4, label=name)
        _label(axes, "flops", target, f"best {target} of each budget")
        axes.legend(fontsize=7)

    return panel


def saturating(law: dict[str, Any], x: np.ndarray) -> tuple[np.ndarray, str]:
    """Values at budgets ``x`` and the label of a law of ``fit.json``'s ``saturating``."""
    decay = np.exp(law["log_a"] - law["gamma"] * np.log(x))
    if "R_max" not in law:
        return law["L_inf"] + decay, f"{law['L_inf']:.3g} + a C^−{law['gamma']:.3f}"
    bound = law["R_max"]
    label = f"bounded by {bound:.4g}" if bound else "bounded, no bound found"
    return 1 / (decay + (1 / bound if bound else 0.0)), label


def _allocation(
    fitted: dict[str, Any], target: str, column: str, quantity: str
) -> Callable[[Axes], None]:
    name = "params" if column == "params" else "frames"

    def panel(axes: Axes) -> None:
        looks = {"best_of_grid": ("o", BLUE), "parabola": ("x", ORANGE)}
        shown: list[float] = []
        for form, (marker, colour) in looks.items():
            law = fitted[form][target]
            points = law["points"][law["points"][column] > 0]
            if "flag" in points:
                points = points[points["flag"] != "edge"]
            axes.plot(points["flops"], points[column], marker, color=colour)
            shown += list(points[column])
            if f"{column}_low" in points:
                ends = points[[f"{column}_low", f"{column}_high"]].to_numpy(float).T
                axes.vlines(points["flops"], *ends, color=colour, lw=0.8)
            if law[quantity]:
                fit, (low, high) = law[quantity], law[quantity]["interval"]
                label = f"{form}: C^{fit['exponent']:.3f} [{low:.3f}, {high:.3f}]"
                x = points["flops"].to_numpy(float)
                y = np.exp(fit["log_coefficient"]) * x ** fit["exponent"]
                axes.plot(x, y, color=colour, lw=1, label=label)
        _label(axes, "flops", name, f"{LABELS[name]} at the best {target}")
        axes.set_ylim(0.6 * np.nanmin(shown), 1.7 * np.nanmax(shown))  # whatever the intervals
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=7)

    return panel


def ends(cells: pd.DataFrame, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the cells' intervals over runs, within what a log axis can show."""
    value = cells[target].to_numpy(float)
    low, high = (cells[f"{target}_{end}"].to_numpy(float) for end in ("low", "high"))
    return np.fmax(low, value / 3), np.fmin(high, value * 3)


def _against_frames(cells: pd.DataFrame, fitted: dict[str, Any]) -> Callable[[Axes], None]:
    law = fitted["return_against_frames"]

    def panel(axes: Axes) -> None:
        known = cells[(cells["return"] > 0) & (cells["samples"] > 0)]
        sizes = np.sort(known["params"].unique())
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(sizes)))
        for size, colour in zip(sizes, colours, strict=True):
            own = known[known["params"] == size].sort_values("samples")
            name = f"{EngFormatter(sep='')(size)} parameters"
            axes.plot(own["samples"], own["return"], ".-", color=colour, lw=0.8, label=name)
            axes.vlines(own["samples"], *ends(own, "return"), color=colour, lw=0.8)
        if best := law["best"]:
            x = best["points"]["frames"].to_numpy(float)
            y = np.exp(best["log_coefficient"]) * x ** best["exponent"]
            label = f"best of all: D^{best['exponent']:.3f}"
            axes.plot(x, y, color=ORANGE, lw=1, ls="--", label=label)
        _label(axes, "frames", "return", "return against frames played")
        axes.legend(fontsize=7)

    return panel


def _return_from_loss(cells: pd.DataFrame, fitted: dict[str, Any]) -> Callable[[Axes], None]:
    def panel(axes: Axes) -> None:
        both = cells[(cells["loss"] > 0) & (cells["return"] > 0)]
        size = np.log10(both["params"].to_numpy(float))
        dots = axes.scatter(both["loss"], both["return"], c=size, s=10, cmap="viridis")
        plt.colorbar(dots, ax=axes, label="log10 parameters")
        law = fitted["return_from_loss"]
        best = fitted["best_of_grid"]["loss"]["points"]
        x = np.geomspace(best["loss"].min(), best["loss"].max(), 50)
        label = f"loss optima of the highest budgets: L^{law['exponent']:.2f}"
        axes.plot(
            x, np.exp(law["log_coefficient"]) * x ** law["exponent"], color=ORANGE, label=label
        )
        _label(axes, "loss", "return", "return against loss")
        axes.legend(fontsize=7)

    return panel
