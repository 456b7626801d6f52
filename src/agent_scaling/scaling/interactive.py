"""The figures of the report: plotly, one panel each, in colours that colour-blind readers tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from agent_scaling.scaling.figures import BLUE, GREEN, LABELS, ORANGE, saturating
from agent_scaling.scaling.runs import Runs

GREY = "#767676"


def figures(runs: Runs, fitted: dict[str, Any]) -> dict[str, dict[str, go.Figure]]:
    """Figures by section (profiles, laws, return_from_loss, diagnostics) and name."""
    found: dict[str, dict[str, go.Figure]] = {"profiles": {}, "laws": {}}
    for target, law in fitted["best_of_grid"].items():
        found["profiles"][target] = _profiles(runs.cells, fitted, target)
        found["laws"][f"optimum_{target}"] = _optimum(fitted, target)
        for column, quantity in (("params", "N_opt"), ("samples", "D_opt")):
            if law[quantity]:
                found["laws"][f"{column}_{target}"] = _allocation(fitted, target, column, quantity)
    if fitted.get("return_against_frames"):
        found["laws"]["return_against_frames"] = _against_frames(runs.cells, fitted)
    if fitted.get("return_from_loss"):
        found["return_from_loss"] = {"return_from_loss": _return_from_loss(runs.cells, fitted)}
    found["diagnostics"] = {t: _residuals(fitted, t) for t in fitted["diagnostics"]["budgets"]}
    return found


def _figure(x: str, y: str, title: str, *, log_y: bool = True) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="simple_white",
        title={"text": title, "font": {"size": 15}, "x": 0, "xref": "paper"},
        margin={"l": 64, "r": 12, "t": 44, "b": 48},
        height=430,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        font={"size": 12},
        hovermode="closest",
    )
    grid = {"exponentformat": "power", "showgrid": True, "gridcolor": "#e6e6e6"}
    figure.update_xaxes(type="log", title=LABELS.get(x, x), dtick=1, **grid)
    scale = {"type": "log", "dtick": 1} if log_y else {"type": "linear"}
    figure.update_yaxes(title={"text": LABELS.get(y, y), "standoff": 4}, **scale, **grid)
    return figure


def _range(axis: str, values: Any) -> dict[str, Any]:
    """Range of a log axis around ``values``, whatever the error bars; ticks at 1, 2, 5 if few."""
    known = np.asarray(values, float)
    low, high = np.log10(known.min()), np.log10(known.max())
    margin = 0.05 * (high - low) + 0.02
    found: dict[str, Any] = {"range": [low - margin, high + margin]}
    if high - low < 2.5:
        ticks = [m * 10.0**e for e in range(int(low) - 2, int(high) + 2) for m in (1, 2, 5)]
        found |= {
            "tickvals": ticks,
            "ticktext": [f"{t:.6g}" if t < 1e5 else f"{t:.0e}" for t in ticks],
        }
    return {axis: found}


def _asymmetric(points: pd.DataFrame, column: str) -> dict[str, Any]:
    """Error bars from ``column``_low to ``column``_high; none where unbounded."""
    value = points[column].to_numpy(float)
    low, high = (points[f"{column}_{end}"].to_numpy(float) for end in ("low", "high"))
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(high - value),
        "arrayminus": np.nan_to_num(value - low),
        "thickness": 1,
    }


def _profiles(cells: pd.DataFrame, fitted: dict[str, Any], target: str) -> go.Figure:
    figure = _figure("params", target, f"isoFLOP profiles of {target}")
    known = cells[cells[target] > 0]
    budgets = np.sort(known["flops"].unique())
    colours = sample_colorscale("Viridis", np.linspace(0, 0.92, len(budgets)))
    for budget, colour in zip(budgets, colours, strict=True):
        cell = known[known["flops"] == budget]
        name = f"{budget:.3g}".replace("e+", "e")
        style = {"line": {"color": colour, "width": 1.2}, "marker": {"size": 5}}
        hover = f"{name} FLOPs<br>%{{x:.4s}} parameters<br>{target} %{{y:.4g}}<extra></extra>"
        if (cell["runs"] > 1).any():
            style["error_y"] = _asymmetric(cell, target) | {"color": colour}
        figure.add_scatter(
            x=cell["params"], y=cell[target], name=name, hovertemplate=hover, **style
        )
    best = fitted["best_of_grid"][target]["points"]
    hollow = {"symbol": "circle-open", "size": 11, "color": ORANGE, "line": {"width": 2}}
    figure.add_scatter(
        x=best["params"], y=best["value"], mode="markers", marker=hollow, name="best of grid"
    )
    curved = fitted["parabola"][target]["points"]
    curved = curved[curved["flag"] == ""]
    cross = {"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": ORANGE}}
    figure.add_scatter(
        x=curved["params"],
        y=curved["value"],
        error_x=_asymmetric(curved, "params") | {"color": ORANGE},
        mode="markers",
        marker=cross,
        name="parabola, 90 %",
    )
    figure.update_layout(_range("xaxis", known["params"]) | _range("yaxis", known[target]))
    return figure.update_layout(height=520, legend_entrywidth=90)


def _optimum(fitted: dict[str, Any], target: str) -> go.Figure:
    figure = _figure("flops", target, f"best {target} of each budget, and the forecast")
    shown: list[Any] = []
    law, rows = fitted["best_of_grid"][target], [r for r in fitted["forecast"] if target in r]
    points = law["points"]
    dots = {"size": 8, "color": BLUE}
    figure.add_scatter(
        x=points["flops"], y=points["value"], mode="markers", marker=dots, name="best of grid"
    )
    last = max([points["flops"].max(), *(row["flops"] for row in rows)])
    x = np.geomspace(points["flops"].min(), last, 120)
    line = np.exp(law["optimum"]["log_coefficient"]) * x ** law["optimum"]["exponent"]
    name = f"power law, C^{law['optimum']['exponent']:.3f}"
    figure.add_scatter(x=x, y=line, mode="lines", line={"color": GREEN, "dash": "dash"}, name=name)
    if curve := fitted["saturating"].get(target):
        y, name = saturating(curve, x)
        figure.add_scatter(x=x, y=y, mode="lines", line={"color": BLUE, "width": 1.5}, name=name)
    if rows:
        low, high = zip(*(row[f"{target}_interval"] for row in rows), strict=True)
        spread = pd.DataFrame({"v_low": low, "v_high": high, "v": [row[target] for row in rows]})
        figure.add_scatter(
            x=[row["flops"] for row in rows],
            y=spread["v"],
            error_y=_asymmetric(spread, "v") | {"color": ORANGE},
            mode="markers",
            marker={"symbol": "diamond", "size": 9, "color": ORANGE},
            name=f"forecast ({fitted['chosen'][target]}), 90 % interval",
        )
        if found := rows[0].get("comparison", {}).get(target):
            star = {"symbol": "star", "size": 12, "color": "black"}
            at, value = [rows[0]["flops"]], [found["measured"]]
            figure.add_scatter(x=at, y=value, mode="markers", marker=star, name="measured")
            shown += value
    shown += [*points["value"], *(end for row in rows for end in row[f"{target}_interval"])]
    return figure.update_layout(_range("yaxis", shown))


def _allocation(fitted: dict[str, Any], target: str, column: str, quantity: str) -> go.Figure:
    name = "params" if column == "params" else "frames"
    figure = _figure("flops", name, f"{LABELS[name]} at the best {target}")
    shown: list[float] = []
    for form, symbol, colour in (("best_of_grid", "circle", BLUE), ("parabola", "x-thin", ORANGE)):
        law = fitted[form][target]
        points = law["points"][law["points"][column] > 0]
        if "flag" in points:
            points = points[points["flag"] != "edge"]
        bars = {}
        if f"{column}_low" in points:
            bars = {"error_y": _asymmetric(points, column) | {"color": colour}}
        edge = {"width": 2, "color": colour}
        marker = {"symbol": symbol, "size": 8, "color": colour, "line": edge}
        label = form.replace("_", " ")
        figure.add_scatter(
            x=points["flops"], y=points[column], mode="markers", marker=marker, name=label, **bars
        )
        if fit := law[quantity]:
            x = points["flops"].to_numpy(float)
            y = np.exp(fit["log_coefficient"]) * x ** fit["exponent"]
            low, high = fit["interval"]
            text = f"C^{fit['exponent']:.3f} [{low:.3f}, {high:.3f}]"
            figure.add_scatter(x=x, y=y, mode="lines", line={"color": colour}, name=text)
        shown += list(points[column].dropna())
    return figure.update_layout(_range("yaxis", shown))


def _return_from_loss(cells: pd.DataFrame, fitted: dict[str, Any]) -> go.Figure:
    figure = _figure("loss", "return", "return against loss")
    both = cells[(cells["loss"] > 0) & (cells["return"] > 0)]
    bar = {"title": {"text": "log₁₀ parameters", "side": "right"}, "thickness": 12}
    marker = {"color": np.log10(both["params"]), "colorscale": "Viridis", "colorbar": bar}
    text = [
        f"{c:.3g} FLOPs, {n:.0f} parameters"
        for c, n in zip(both["flops"], both["params"], strict=True)
    ]
    figure.add_scatter(
        x=both["loss"], y=both["return"], mode="markers", marker=marker, text=text, name="cells"
    )
    law, best = fitted["return_from_loss"], fitted["best_of_grid"]["loss"]["points"]
    x = np.geomspace(best["loss"].min(), best["loss"].max(), 50)
    y = np.exp(law["log_coefficient"]) * x ** law["exponent"]
    name = f"loss optima of the highest budgets: L^{law['exponent']:.2f}"
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": ORANGE, "width": 2}, name=name)
    ranges = _range("xaxis", both["loss"]) | _range("yaxis", both["return"])
    return figure.update_layout(ranges).update_layout(height=480)


def _against_frames(cells: pd.DataFrame, fitted: dict[str, Any]) -> go.Figure:
    """What a policy that learns by playing has reached after so many interactions."""
    figure = _figure("frames", "return", "return against frames played, by size")
    known = cells[(cells["return"] > 0) & (cells["samples"] > 0)].sort_values("samples")
    sizes = np.sort(known["params"].unique())
    colours = sample_colorscale("Viridis", np.linspace(0, 0.92, len(sizes)))
    for size, colour in zip(sizes, colours, strict=True):
        own = known[known["params"] == size]
        style = {"line": {"color": colour, "width": 1.2}, "marker": {"size": 5}}
        bars = _asymmetric(own, "return") | {"color": colour}
        name = f"{size:,.0f} parameters"
        figure.add_scatter(x=own["samples"], y=own["return"], error_y=bars, name=name, **style)
    if best := fitted["return_against_frames"]["best"]:
        x = best["points"]["frames"].to_numpy(float)
        y = np.exp(best["log_coefficient"]) * x ** best["exponent"]
        dashed = {"color": ORANGE, "dash": "dash"}
        name = f"best of all: D^{best['exponent']:.3f}"
        figure.add_scatter(x=x, y=y, mode="lines", line=dashed, name=name)
    return figure.update_layout(_range("yaxis", known["return"]))


def _residuals(fitted: dict[str, Any], target: str) -> go.Figure:
    """Residuals of each budget in the power laws, sized by leverage."""
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
    return figure.add_hline(y=0, line={"color": GREY, "width": 1}).update_layout(height=360)
