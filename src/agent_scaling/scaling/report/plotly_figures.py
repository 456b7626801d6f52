"""Draws the report's figures with plotly, one panel each, in colour-blind-safe colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from agent_scaling.scaling.report import marks
from agent_scaling.scaling.report.figures import BLUE, GREEN, ORANGE
from agent_scaling.scaling.runs.lowest import moved
from agent_scaling.scaling.runs.table import Runs

GREY, PALE = "#767676", "#c4c4c4"


def figures(runs: Runs, fitted: dict[str, Any]) -> dict[str, dict[str, go.Figure]]:
    """Draw the figures, by section (profiles, laws, return_from_loss, diagnostics) and name."""
    zero, runs = runs.zero, runs.counted()
    fitted = moved(fitted, -zero, runs.highest)
    found: dict[str, dict[str, go.Figure]] = {"profiles": {}, "laws": {}}
    for target, law in fitted["best_of_grid"].items():
        found["profiles"][target] = _profiles(runs.cells, fitted, target)
        found["laws"][f"optimum_{target}"] = _optimum(runs.cells, fitted, target)
        for column, quantity in (("params", "N_opt"), ("samples", "D_opt")):
            if law[quantity]:
                found["laws"][f"{column}_{target}"] = _allocation(fitted, target, column, quantity)
    if fitted.get("return_against_frames"):
        found["laws"]["return_against_frames"] = _against_frames(runs.cells, fitted)
    if fitted.get("return_from_loss"):
        found["return_from_loss"] = {"return_from_loss": _return_from_loss(runs.cells, fitted)}
    for figure in (figure for group in found.values() for figure in group.values()):
        label = marks.above(figure.layout.yaxis.title.text, zero)
        figure.update_yaxes(title={"text": label})
    found["diagnostics"] = {t: _residuals(fitted, t) for t in fitted["diagnostics"]["budgets"]}
    return found


def _figure(x: str, y: str, title: str, *, log_y: bool = True) -> go.Figure:
    layout = {
        "template": "simple_white",
        "title": {"text": title, "font": {"size": 15}, "x": 0, "xref": "paper"},
        "margin": {"l": 64, "r": 12, "t": 44, "b": 48},
        "height": 430,
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        "font": {"size": 12},
        "hovermode": "closest",
        "showlegend": True,
    }
    figure = go.Figure(layout=layout)  # at once, or it begins with plotly's own template
    grid = {"showgrid": True, "gridcolor": "#e6e6e6"}
    figure.update_xaxes(type="log", title=marks.LABELS[x], **grid)
    label = {"text": marks.LABELS.get(y, y), "standoff": 4}
    figure.update_yaxes(title=label, type="log" if log_y else "linear", **grid)
    return figure


def _axis(axis: str, name: str, values: npt.ArrayLike, spans: npt.ArrayLike = ()) -> dict[str, Any]:
    """Return the layout of a log axis around ``values``; :mod:`marks` gives the ticks."""
    low, high = marks.limits(values, spans)
    ticks = marks.tick_values(low, high)
    text = [marks.tick_text(name, value) for value in ticks]
    return {axis: {"range": [np.log10(low), np.log10(high)], "tickvals": ticks, "ticktext": text}}


def _bars(table: pd.DataFrame, column: str, colour: str) -> dict[str, Any]:
    """Return error bars from ``column``_low to ``column``_high, of length 0 where unknown."""
    value, (low, high) = table[column].to_numpy(float), marks.ends(table, column)
    up, down = (np.nan_to_num(part) for part in (high - value, value - low))
    style = {"type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": colour}
    return style | {"array": up, "arrayminus": down}


def _profiles(cells: pd.DataFrame, fitted: dict[str, Any], target: str) -> go.Figure:
    figure = _figure("params", target, f"isoFLOP profiles of {target}")
    known = cells[cells[target] > 0]
    budgets = np.sort(known["flops"].unique())
    colours = sample_colorscale("Viridis", np.linspace(0, 0.92, len(budgets)))
    aside = marks.aside(known["params"], len(budgets))
    named = marks.in_legend(len(budgets))
    for i, (budget, shift, colour) in enumerate(zip(budgets, aside, colours, strict=True)):
        cell, name = known[known["flops"] == budget], f"{marks.budget(budget)} FLOPs"
        style = {"line": {"color": colour, "width": 1.2}, "marker": {"size": 5}}
        style["error_y"] = _bars(cell, target, colour)
        style |= {"customdata": cell["params"]} | ({} if i in named else {"showlegend": False})
        hover = f"{name}<br>%{{customdata:.4s}} parameters<br>{target} %{{y:.4g}}<extra></extra>"
        x = cell["params"] * shift
        figure.add_scatter(x=x, y=cell[target], name=name, hovertemplate=hover, **style)
    best = fitted["best_of_grid"][target]["points"]
    hollow = {"symbol": "circle-open", "size": 11, "color": ORANGE, "line": {"width": 2}}
    x = best["params"] * aside
    figure.add_scatter(x=x, y=best["value"], mode="markers", marker=hollow, name="best of grid")
    bounded, _ = marks.minima(fitted["parabola"][target]["points"], "params")
    if len(bounded):
        figure.add_scatter(
            x=bounded["params"],
            y=bounded["value"],
            error_x=_bars(bounded, "params", ORANGE),
            mode="markers",
            marker={"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": ORANGE}},
            name="minimum, 90 %",
        )
    figure.update_layout(_axis("xaxis", "params", known["params"]))
    figure.update_layout(_axis("yaxis", target, known[target], marks.ends(known, target)))
    return figure.update_layout(height=520, legend_entrywidth=100)


def _optimum(cells: pd.DataFrame, fitted: dict[str, Any], target: str) -> go.Figure:
    figure = _figure("flops", target, f"best {target} by budget, and forecast")
    points = marks.at_best(fitted["best_of_grid"][target]["points"], cells, target)
    figure.add_scatter(
        x=points["flops"],
        y=points["value"],
        error_y=_bars(points, "value", BLUE),
        mode="markers",
        marker={"size": 8, "color": BLUE},
        name="best of grid",
    )
    rows = [row for row in fitted["forecast"] if target in row]
    flops = [*points["flops"], *(row["flops"] for row in rows)]
    x = np.geomspace(min(flops), max(flops), 120)
    for y, name, style in marks.curves(fitted, target, x):
        look = {"color": GREEN, "dash": "dash"} if style == "--" else {"color": BLUE, "width": 1.5}
        figure.add_scatter(x=x, y=y, mode="lines", line=look, name=name)
    shown = [*points["value"], *(end for row in rows for end in row[f"{target}_interval"])]
    shown += _add_forecast(figure, rows, target, fitted["chosen"][target])
    figure.update_layout(_axis("xaxis", "flops", flops))
    return figure.update_layout(_axis("yaxis", target, shown, marks.ends(points, "value")))


def _add_forecast(
    figure: go.Figure, rows: list[dict[str, Any]], target: str, chosen: str
) -> list[float]:
    """Draw the forecasts and the measured values that check them; return the measured values."""
    if not rows:
        return []
    low, high = zip(*(row[f"{target}_interval"] for row in rows), strict=True)
    spread = pd.DataFrame({"v_low": low, "v_high": high, "v": [row[target] for row in rows]})
    figure.add_scatter(
        x=[row["flops"] for row in rows],
        y=spread["v"],
        error_y=_bars(spread, "v", ORANGE) | {"width": 4},
        mode="markers",
        marker={"symbol": "diamond", "size": 9, "color": ORANGE},
        name=f"forecast ({chosen}), 90 %",
    )
    checked = [(row["flops"], *found) for row in rows if (found := marks.measured(row, target))]
    for flops, value, name in checked:
        star = {"symbol": "star", "size": 13, "color": "black"}
        figure.add_scatter(x=[flops], y=[value], mode="markers", marker=star, name=name)
    return [value for _, value, _ in checked]


def _allocation(fitted: dict[str, Any], target: str, column: str, quantity: str) -> go.Figure:
    name = "params" if column == "params" else "frames"
    figure = _figure("flops", name, f"{marks.LABELS[name]} at the best {target}")
    best, curved = fitted["best_of_grid"][target], fitted["parabola"][target]
    picked = best["points"][best["points"][column] > 0]
    bounded, unbounded = marks.minima(curved["points"], column)
    for points, symbol, colour, label in (
        (picked, "circle", BLUE, "best of grid, no interval"),
        (bounded, "square", ORANGE, "minimum, 90 %"),
        (unbounded, "square-open", ORANGE, "minimum, interval unbounded"),
    ):
        if len(points):
            marker = {"symbol": symbol, "size": 8, "color": colour}
            bars = {"error_y": _bars(points, column, colour)} if points is bounded else {}
            at = {"x": points["flops"], "y": points[column]}
            figure.add_scatter(**at, mode="markers", marker=marker, name=label, **bars)
    lines = marks.ends(bounded, column).ravel()
    for law, colour in ((best, BLUE), (curved, ORANGE)):
        if (fit := law[quantity]) and fit["exponent"] is not None:
            x = law["points"]["flops"].to_numpy(float)
            y = np.exp(fit["log_coefficient"]) * x ** fit["exponent"]
            line, label = {"color": colour}, marks.power("C", fit)
            figure.add_scatter(x=x, y=y, mode="lines", line=line, name=label)
            lines = np.append(lines, y)
    shown = pd.concat([part[column] for part in (picked, bounded, unbounded)])
    figure.update_layout(_axis("xaxis", "flops", picked["flops"]))
    return figure.update_layout(_axis("yaxis", name, shown, lines))


def _return_from_loss(cells: pd.DataFrame, fitted: dict[str, Any]) -> go.Figure:
    figure = _figure("loss", "return", "return against loss")
    both = cells[(cells["loss"] > 0) & (cells["return"] > 0)]
    bar = {"title": {"text": "log₁₀ parameters", "side": "right"}, "thickness": 12}
    marker = {"color": np.log10(both["params"]), "colorscale": "Viridis", "colorbar": bar}
    text = [
        f"{marks.budget(c)} FLOPs, {n:.0f} parameters"
        for c, n in zip(both["flops"], both["params"], strict=True)
    ]
    bars = {f"error_{axis}": _bars(both, n, PALE) for axis, n in (("x", "loss"), ("y", "return"))}
    at = {"x": both["loss"], "y": both["return"]}
    figure.add_scatter(**at, mode="markers", marker=marker, text=text, name="cells", **bars)
    law, best = fitted["return_from_loss"], fitted["best_of_grid"]["loss"]["points"]
    x = np.geomspace(best["loss"].min(), best["loss"].max(), 50)
    y = marks.under(np.exp(law["log_coefficient"]) * x ** law["exponent"], fitted)
    name = f"loss optima: {marks.power('L', law)}"
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": ORANGE, "width": 2}, name=name)
    for axis, target in (("xaxis", "loss"), ("yaxis", "return")):
        figure.update_layout(_axis(axis, target, both[target], marks.ends(both, target)))
    return figure.update_layout(height=480)


def _against_frames(cells: pd.DataFrame, fitted: dict[str, Any]) -> go.Figure:
    """Draw the return of policies that learn by playing against their interactions, by size."""
    figure = _figure("frames", "return", "return against frames played, by size")
    known = cells[(cells["return"] > 0) & (cells["samples"] > 0)].sort_values("samples")
    sizes = np.sort(known["params"].unique())
    colours = sample_colorscale("Viridis", np.linspace(0, 0.92, len(sizes)))
    named = marks.in_legend(len(sizes))
    for i, (size, colour) in enumerate(zip(sizes, colours, strict=True)):
        own = known[known["params"] == size]
        style: dict[str, Any] = {"line": {"color": colour, "width": 1.2}, "marker": {"size": 5}}
        style |= {} if i in named else {"showlegend": False}
        bars = _bars(own, "return", colour)
        name = f"{size:,.0f} parameters"
        figure.add_scatter(x=own["samples"], y=own["return"], error_y=bars, name=name, **style)
    if best := fitted["return_against_frames"]["best"]:
        x = best["points"]["frames"].to_numpy(float)
        y = marks.under(np.exp(best["log_coefficient"]) * x ** best["exponent"], fitted)
        dashed = {"color": ORANGE, "dash": "dash"}
        name = f"best of all: {marks.power('D', best)}"
        figure.add_scatter(x=x, y=y, mode="lines", line=dashed, name=name)
    figure.update_layout(_axis("xaxis", "frames", known["samples"]))
    return figure.update_layout(
        _axis("yaxis", "return", known["return"], marks.ends(known, "return"))
    )


def _residuals(fitted: dict[str, Any], target: str) -> go.Figure:
    """Draw each budget's residuals in the power laws, as marks whose area is the leverage."""
    title = f"{target}: log residuals, area: leverage"
    figure = _figure("flops", "log residual", title, log_y=False)
    rows = pd.DataFrame(fitted["diagnostics"]["budgets"][target])
    looks = {"N_opt": (BLUE, "circle"), "D_opt": (GREEN, "square"), "optimum": (ORANGE, "diamond")}
    for name, (colour, symbol) in looks.items():
        if f"{name}_residual" in rows:
            size = 40 * np.sqrt(rows["leverage"])
            marker = {"color": colour, "symbol": symbol, "size": size, "opacity": 0.75}
            label = {"N_opt": "parameters", "D_opt": "frames", "optimum": target}[name]
            y = rows[f"{name}_residual"]
            figure.add_scatter(x=rows["flops"], y=y, mode="markers", marker=marker, name=label)
    wide = rows["flops"].min() / 1.4, rows["flops"].max() * 1.4  # room for the marks
    figure.update_layout(_axis("xaxis", "flops", rows["flops"], wide))
    return figure.add_hline(y=0, line={"color": GREY, "width": 1}).update_layout(height=360)
