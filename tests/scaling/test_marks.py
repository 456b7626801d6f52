"""Figures of a small study show what is known of each point, and nothing that is not there."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.fit import analyse
from agent_scaling.scaling.report import figures, marks
from agent_scaling.scaling.report import plotly_figures as interactive
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import known_cells, with_returns


@pytest.fixture(scope="module")
def small():
    """(runs, what was fitted) of four sizes, one seed each, with errors of their own; a check."""
    table = with_returns(known_cells(0.05, 3, budgets=4, sizes=4), 3)
    table = table.assign(loss_se=0.03 * table["loss"], return_se=0.9 * table["return"])
    runs = tidy(table, "test")
    fitted = analyse(runs, [3e17], bootstraps=0, seed=0)
    fitted["forecast"][0]["comparison"] = {"loss": {"measured": 0.2}}
    return runs, fitted


@pytest.fixture(scope="module")
def drawn(small):
    return interactive.figures(*small)


def panels(small, monkeypatch):
    """What matplotlib was told to draw, by figure."""
    found = {}

    def keep(panel, path):
        _, axes = plt.subplots()
        panel(axes)
        found[path.name] = axes
        plt.close(axes.figure)
        return path

    monkeypatch.setattr(figures, "_save", keep)
    figures.draw(*small, figures.Path())
    return found


def test_single_runs_have_bars(small, drawn):
    """By their own standard error: a study has one seed."""
    cells = small[0].cells
    lines = [trace for trace in drawn["profiles"]["loss"].data if "FLOPs" in trace.name]
    found = np.concatenate([trace.error_y.array for trace in lines])
    assert found == pytest.approx((cells["loss_high"] - cells["loss"]).to_numpy())
    assert (found > 0).all()
    best, *_ = drawn["laws"]["optimum_return"].data
    assert (best.error_y.array > 0).all()
    (dots, *_) = drawn["return_from_loss"]["return_from_loss"].data
    assert (dots.error_x.array > 0).all()
    assert (dots.error_y.array > 0).all()
    assert marks.bars(cells, "loss").startswith("bars: 90 % intervals over held-out games; diff")
    assert marks.bars(cells, "return") == "bars: 90 % intervals over episodes"
    assert marks.bars(cells.assign(runs=3), "loss").endswith("over a cell's runs")
    assert marks.bars(cells.assign(loss_low=np.nan), "loss") == ""


def test_legends_hold_what_is_drawn_once(small, drawn, monkeypatch):
    for group in drawn.values():
        for figure in group.values():
            names = [trace.name for trace in figure.data]
            assert len(set(names)) == len(names)
            assert all(len(trace.x) for trace in figure.data)
    for axes in panels(small, monkeypatch).values():
        names = axes.get_legend_handles_labels()[1]
        assert len(set(names)) == len(names)


def test_unbounded_minima_are_hollow_and_have_no_bar():
    names = ("params_low", "params_high", "flag")
    rows = [(3.0, 30.0, ""), (np.nan, 20.0, "curvature"), (1.0, 9.0, "edge")]
    points = pd.DataFrame(rows, columns=names).assign(params=10.0, flops=[1.0, 2.0, 3.0])
    bounded, unbounded = marks.minima(points, "params")
    assert (bounded["flops"].tolist(), unbounded["flops"].tolist()) == ([1.0], [2.0])
    law = {"interval": [0.1, 0.9], "exponent": 0.5, "log_coefficient": 0.0}
    best = pd.DataFrame({"flops": [1.0, 2.0, 3.0], "params": [5.0, 10.0, 20.0]})
    fitted = {
        "best_of_grid": {"loss": {"points": best, "N_opt": law}},
        "parabola": {"loss": {"points": points, "N_opt": None}},
    }
    figure = interactive._allocation(fitted, "loss", "params", "N_opt")
    by_name = {trace.name: trace for trace in figure.data}
    assert by_name["minimum, 90 %"].error_y.array == pytest.approx([20.0])
    hollow = by_name["minimum, interval unbounded"]
    assert hollow.marker.symbol == "square-open"
    assert hollow.error_y.array is None


def test_a_law_whose_floor_went_to_0_is_drawn_once(small):
    _, fitted = small
    x = np.geomspace(1e14, 3e17, 3)
    for floor, count in ((0.1, 2), (0.0, 1)):
        law = fitted["saturating"]["loss"] | {"L_inf": floor}
        found = marks.curves(fitted | {"saturating": {"loss": law}}, "loss", x)
        assert len(found) == count
        assert ("no floor found" in found[-1][1]) == (count == 1)


def test_what_the_check_measured_is_a_star(small, drawn, monkeypatch):
    star = drawn["laws"]["optimum_loss"].data[-1]
    assert (star.marker.symbol, star.name, star.y) == ("star", "measured (check): 0.2", (0.2,))
    axes = panels(small, monkeypatch)["optimum_loss"]
    (line,) = [line for line in axes.lines if line.get_label() == "measured (check): 0.2"]
    assert (line.get_marker(), line.get_xydata().tolist()) == ("*", [[3e17, 0.2]])


@pytest.mark.parametrize(
    ("name", "low", "high", "texts"),
    [
        ("flops", 1.7e11, 3.5e12, {"2e11", "5e11", "1e12", "2e12"}),
        ("flops", 1.5e8, 3e9, {"2e8", "5e8", "1e9", "2e9"}),
        ("flops", 1e15, 1e19, {"1e15", "1e16", "1e17", "1e18", "1e19"}),
        ("params", 1.5e4, 7e5, {"20k", "50k", "100k", "200k", "500k"}),
        ("loss", 1.3, 2.6, {"1.4", "1.6", "2", "2.4"}),
    ],
)
def test_axes_have_marks_as_commands_write_them(name, low, high, texts):
    marked = [v for v in marks.tick_values(low, high) if low <= v <= high]
    assert texts <= {marks.tick_text(name, value) for value in marked}
    assert len(marked) <= 8


def test_a_legend_leaves_the_figure_room(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tidy(known_cells(0.05, 3, budgets=60, sizes=4), "test")
    made = (runs, analyse(runs, [3e17], bootstraps=0, seed=0))
    axes = panels(made, monkeypatch)["profiles_loss"]
    lines = {line.get_label() for line in axes.get_lines() if len(line.get_xdata()) == 4}
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(axes.get_lines()) >= 60
    assert len([name for name in named if name in lines]) == marks.LISTED
    listed = list(interactive.figures(*made)["profiles"]["loss"].data)
    assert sum(trace.showlegend is not False for trace in listed[:60]) == marks.LISTED


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 500])
def test_a_legend_lists_the_first_and_the_last(count: int) -> None:
    listed = marks.in_legend(count)
    assert len(listed) == min(count, marks.LISTED)
    assert {0, count - 1} <= listed or not count
