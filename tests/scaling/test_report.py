"""The report holds all of a fit in one file that asks for nothing else."""

from __future__ import annotations

import html
import json
import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from agent_scaling.scaling.fit import analyse
from agent_scaling.scaling.report.page import by_kind, command, number, span, write_report
from agent_scaling.scaling.report.plotly_figures import figures
from agent_scaling.scaling.report.replays import Replay
from agent_scaling.scaling.report.verdict import verdict
from tests.scaling.synthetic import known_law


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    runs = known_law(noise=0.02, seed=4, budgets=6, sizes=6)
    runs.rows["status"] = "FINISHED"
    runs.rows.loc[0, "status"] = "FAILED"
    runs.flags.append("failed run: <b>lost</b> is FAILED")
    fitted = analyse(runs, [1e18], bootstraps=10, seed=0)
    origin = {"source": "csv", "path": "my runs.csv", "study": None, "game": "Pong"}
    fitted = {"origin": origin} | fitted
    fitted["verdict"] = verdict(fitted)
    folder = tmp_path_factory.mktemp("report")
    shared = {"run": "abc", "name": "40k", "path": "replays/7/x.html", "flops": 1e17, "params": 4e4}
    replays = [
        Replay(kind="best", page='<p title="a">dlvl 3 & up</p>', **shared),
        Replay(kind="worst", page=None, **shared),
    ]
    page = write_report(runs, fitted, folder, replays).read_text(encoding="utf-8")
    return runs, fitted, page


def test_one_file_without_a_network(made):
    _, _, page = made
    assert len(page.encode()) < 6e6
    shell = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # ours, without plotly's
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!#)", shell)
    assert "@media print" in page
    assert "width=device-width" in page


def test_every_part_is_there(made):
    _, fitted, page = made
    for section in ("forecast", "laws", "profiles", "validation", "diagnostics", "flags", "data"):
        assert f'<section id="{section}">' in page
    for name in fitted["validation"]["loss"]:
        assert f"<td>{name}</td>" in page
    assert "&lt;b&gt;lost&lt;/b&gt;" in page
    assert "FAILED" in page
    blocks = re.findall(r'data-plot="([\w-]+)">(.*?)</script>', page, flags=re.DOTALL)
    drawn = {name: json.loads(text) for name, text in blocks}
    assert {"profiles-loss", "laws-optimum_return", "diagnostics-loss"} <= set(drawn)
    assert all(figure["data"] for figure in drawn.values())


def test_the_answer_comes_first_then_profiles_and_law(made):
    _, fitted, page = made
    for sentences in fitted["verdict"].values():
        assert all(html.escape(one, quote=False) in page for one in sentences)
    order = ["verdict", "profiles", "forecast", "laws", "flags", "setting", "data"]
    places = [page.index(f'<section id="{name}"') for name in order]
    assert places == sorted(places)
    drawn = re.findall(r'class="plot" id="([\w-]+)"', page)
    assert drawn[:4] == [
        "profiles-loss",
        "laws-optimum_loss",
        "profiles-return",
        "laws-optimum_return",
    ]
    assert len(drawn) == len(set(drawn))
    for kind in ("png", "svg"):
        assert page.count(f'data-kind="{kind}"') == len(drawn)


def test_replays_stand_in_frames_of_their_own(made):
    (held,) = re.findall(r'<iframe sandbox="allow-scripts"[^>]* srcdoc="([^"]*)"', made[2])
    assert html.unescape(held) == '<p title="a">dlvl 3 & up</p>'
    assert "among the artifacts of run abc, replays/7/x.html" in made[2]


def test_every_cell_is_in_the_table(made):
    runs, _, page = made
    table = page[page.index(f"<summary>{len(runs.cells)} cells</summary>") :]
    assert table.count("<tr><td>") == len(runs.cells)
    budgets = runs.cells["flops"].nunique()
    assert table.count('<td class="best">') == 2 * budgets  # of loss and of return


def test_forecast_and_what_was_measured_are_drawn(made):
    runs, fitted, _ = made
    row = fitted["forecast"][0]
    row = row | {"comparison": {"loss": {"measured": 0.2, "log_error": 0.1, "within": True}}}
    figure = figures(runs, fitted | {"forecast": [row]})["laws"]["optimum_loss"]
    by_name = {trace.name.split(" (")[0]: trace for trace in figure.data}
    low, high = row["loss_interval"]
    drawn = by_name["forecast"]
    assert drawn.y[0] + drawn.error_y.array[0] == pytest.approx(high)
    assert drawn.y[0] - drawn.error_y.arrayminus[0] == pytest.approx(low)
    assert by_name["measured"].y[0] == 0.2


def test_the_command_makes_the_fit_again(made):
    """A shell and Hydra read back what the fit was made of, whatever it holds."""
    origin = {
        "source": "csv",
        "path": ["it's $HOME (a)=[b].csv", "returns.csv"],
        "where": {"data set": 'c4 "en"', "epoch": 1, "step": None},
        "columns": {"params": "n, params"},
        "merge_within": 0.05,
        "study": None,
        "game": "Pong",
    }
    program, verb, *words = shlex.split(command(made[1] | {"origin": origin}))
    assert (program, verb) == ("agent-scaling", "fit")
    parsed = OverridesParser.create().parse_overrides(words)
    read = OmegaConf.to_container(
        OmegaConf.create({o.get_key_element(): o.value() for o in parsed})
    )
    assert read.pop("forecast") == [1e18]
    assert read.pop("budgets") == pytest.approx(made[1]["budgets"], rel=1e-5)
    assert read == {key: value for key, value in origin.items() if value is not None}


def test_numbers_and_flags_are_readable():
    assert [number(v) for v in (0.12345, 43.2e9, 6455.2, 3.29e19, None)] == [
        "0.123",
        "43.2 G",
        "6,455",
        "3.29e19",
        "not measured",
    ]
    assert number(None, why="none found") == "none found"
    assert span([1.0, None]) == "1 to ∞"
    assert by_kind(["edge: a", "edge: b", "alone"]) == {"edge": ["a", "b"], "alone": [""]}
