"""A fit in words: if its forecast holds, how values grow, what to train next, what is not known."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from agent_scaling.scaling.comparison import compare
from agent_scaling.scaling.fit import analyse
from agent_scaling.scaling.report.terminal import print_laws, print_verdict
from agent_scaling.scaling.report.verdict import (
    ANSWER,
    GROWTH,
    NEXT,
    UNKNOWN,
    markdown,
    verdict,
)
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import known_cells, known_law


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    return analyse(known_law(noise=0.01, seed=4, budgets=6, sizes=6), [1e18, 1e19], 0, 0)


def with_measured(fitted: dict[str, Any], **measured: float) -> dict[str, Any]:
    first, *others = fitted["forecast"]
    first = first | {"comparison": compare(first, measured)}
    return fitted | {"forecast": [first, *others]}


def test_a_forecast_that_was_not_tested_says_so(fitted: dict[str, Any]) -> None:
    said = verdict(fitted)[ANSWER]
    row = fitted["forecast"][0]
    assert said[0].startswith(f"Forecast of loss, not tested: {row['loss']:.3g} nats [")
    assert said[1].startswith("Forecast of return, not tested: ")
    assert all("for 1e18 FLOPs" in one for one in said)


def test_a_forecast_holds_where_its_interval_has_the_measurement(fitted: dict[str, Any]) -> None:
    row = fitted["forecast"][0]
    inside, outside = 1.01 * row["loss"], 2 * row["return_interval"][1]
    loss, score = verdict(with_measured(fitted, loss=inside, **{"return": outside}))[ANSWER]
    assert loss.startswith("The forecast of loss holds: ")
    assert f"and {inside:.3g} measured, inside the interval (the forecast is 1.0% too low)" in loss
    assert score.startswith("The forecast of return does NOT hold: ")
    assert "outside the interval" in score


def test_growth_is_that_of_the_laws(fitted: dict[str, Any]) -> None:
    law = fitted["best_of_grid"]["loss"]
    said = verdict(fitted)[GROWTH]
    factor = 10 ** law["optimum"]["exponent"]
    assert said[0].startswith(f"10 × the compute multiplies the best loss by {factor:.3g} (")
    assert f"the best size by {10 ** law['N_opt']['exponent']:.3g} (" in said[1]
    assert "number of frames" in said[2]
    assert "the best return" in said[3]


def test_growth_says_where_the_forecasts_bend(fitted: dict[str, Any]) -> None:
    """A power law of the budgets beside forecasts that level off would contradict them."""
    first, *between, last = fitted["forecast"]
    factor = 10 ** fitted["best_of_grid"]["return"]["optimum"]["exponent"]
    decades = math.log10(last["flops"] / first["flops"])

    def said(share: float) -> str:
        row = last | {"return": first["return"] * (share * factor) ** decades}
        return verdict(fitted | {"forecast": [first, *between, row]})[GROWTH][3]

    assert "bend" not in said(1.0)
    for share in (0.2, 5.0):
        told = f" The forecasts bend: from 1e18 to 1e19 FLOPs, it is {share * factor:.3g}."
        assert said(share).endswith(told)


def test_the_next_run_has_a_size_an_expectation_and_a_cost(fitted: dict[str, Any]) -> None:
    (text,) = verdict(fitted)[NEXT]
    assert text.startswith("For 1e19 FLOPs, 10 × the highest so far: ")
    assert "Expect a loss of " in text
    text, cost = verdict(fitted | {"cpu_seconds_per_flop": 3600e-19})[NEXT]
    assert "about 1:00:00 of CPU time" in cost


def test_bounds_are_told_as_bounds(fitted: dict[str, Any]) -> None:
    row = fitted["forecast"][-1] | {"params": 5e5, "params_interval": [0.0, 5e5]}
    row |= {"frames": 7e6, "frames_interval": [7e6, math.inf]}
    (text,) = verdict(fitted | {"forecast": [row]})[NEXT]
    assert "at most 500k parameters on at least 7M frames" in text


def test_what_the_runs_do_not_show_is_named(fitted: dict[str, Any]) -> None:
    said = verdict(fitted, ["the games are few"])[UNKNOWN]
    assert "another seed: no cell was run twice" in " ".join(said)
    assert any(
        one.startswith("The laws at 1e19 FLOPs, 100 × the highest budget fitted: ") for one in said
    )
    assert said[-1] == "The games are few."
    cells = known_cells(0.01, 4, budgets=4, sizes=3, off=40.0)  # all sizes beyond the best
    missed = analyse(tidy(cells, "test"), [1e18], 0, 0)
    told = verdict(missed)[UNKNOWN]
    assert told[0].startswith(
        "The best size itself: most profiles of loss are best at the smallest"
    )
    assert any("have it at an end of the grid" in one for one in told)


def test_too_few_budgets_are_no_forecast() -> None:
    cells = known_cells(0.01, 4, budgets=3, sizes=4)
    said = verdict(analyse(tidy(cells, "test"), [1e18], 0, 0))
    assert said[ANSWER] == ["No forecast: it needs four budgets or more with the same measurement."]
    assert any(one.startswith("The loss ahead: fewer than 4 budgets") for one in said[UNKNOWN])


def test_the_verdict_is_printed_and_written_for_mlflow(
    fitted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    said = verdict(fitted)
    print_verdict(said, most=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Verdict     {said[ANSWER][0]}"
    assert lines[1].strip() == "… and 1 more, in the report"
    assert markdown(said).startswith(f"**Verdict**\n\n- {said[ANSWER][0]}\n- ")


def test_laws_that_are_not_there_have_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame(known_cells(0.01, 4, budgets=4, sizes=3)).drop(columns="samples")
    print_laws(analyse(tidy(table, "test"), [1e18], 0, 0))
    said = capsys.readouterr().out
    assert "none: no frames are known" in said
    assert "no exponents: " in said
    assert "are needed" in said
