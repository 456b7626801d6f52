"""Laws of returns at 0 and below count from a lowest return, given or estimated."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.fitting.lowest import widened
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.laws import curves
from agent_scaling.scaling.laws.lowest import estimate_lowest
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import known_cells, with_returns

EPISODES, DRAWS = 30, 200
LAWS = {
    "from the floor": {"budgets": 6, "exponent": 1.2, "lowest": -21, "highest": 24},
    "bounded": {"budgets": 10, "exponent": 0.8, "lowest": -5, "highest": 50, "bound": 30},
    "far from the floor": {"budgets": 6, "exponent": 0.3, "lowest": -21, "highest": 24},
    "few budgets": {"budgets": 5, "exponent": 0.8, "lowest": -5, "highest": 24},
}


def drawn(seed, budgets, exponent, lowest, highest, bound=np.inf):
    """(log budgets, mean returns, their standard errors, the truth above the lowest return)."""
    generator = np.random.default_rng(seed)
    x = np.log(np.geomspace(1e10, 1e10 * 10 ** (0.3 * budgets), budgets))
    above = 1 / (1 / bound + np.exp(exponent * (x[-1] - x)) / highest)
    error = (0.5 * above + 0.5) / np.sqrt(EPISODES)
    measured = lowest + above + error * generator.standard_normal(budgets)
    known = error * np.sqrt(generator.chisquare(EPISODES - 1, budgets) / (EPISODES - 1))
    return x, measured, known, above


@pytest.mark.parametrize("case", LAWS)
def test_a_lowest_return_and_its_law_are_recovered(case):
    """The interval of the exponent, widened by that of the lowest return, holds the truth."""
    law = LAWS[case]
    values, hits = [], []
    for seed in range(DRAWS):
        x, measured, error, above = drawn(seed, **law)
        found = estimate_lowest(x, measured, error, measured.min())
        values.append(found.value)
        fits = [curves.fit_power(x, np.log(measured - z)) for z in (found.value, *found.ends)]
        middle, *moved = (float(f.theta[1]) for f in fits)
        low, high = widened(middle, fits[0].interval(1), moved)
        hits.append(low <= curves.fit_power(x, np.log(above)).theta[1] <= high)
    assert np.mean(hits) >= 0.88
    if case != "far from the floor":
        assert np.median(values) == pytest.approx(law["lowest"], abs=0.25)


def test_without_standard_errors_and_with_too_few_budgets():
    x, measured, _, above = drawn(0, **LAWS["few budgets"])
    exact = above + LAWS["few budgets"]["lowest"]
    found = estimate_lowest(x, exact, np.full(5, np.nan), exact.min())
    assert found.value == pytest.approx(-5, abs=0.3)
    assert found.interval[0] < -5 < found.interval[1]
    few = estimate_lowest(x[:3], measured[:3], np.full(3, np.nan), measured[:3].min())
    assert (few.value < measured[:3].min(), few.interval) == (True, None)


def table(lowest=-21.0, seed=3):
    cells = with_returns(known_cells(0.01, seed, budgets=6, sizes=5), seed)
    error = 0.03 * cells["return"]
    return cells.assign(**{"return": cells["return"] + lowest, "return_se": error})


def test_counted_from_the_given_return_all_laws_are_those_of_what_lies_above_it():
    tables = {zero: table(zero).drop(columns="loss") for zero in (0.0, -21.0)}
    plain, moved = (fit_laws(cells, lowest_return=zero) for zero, cells in tables.items())
    pd.testing.assert_frame_equal(plain.exponents, moved.exponents)
    one, other = (laws.forecast([3e17, 1e18]) for laws in (plain, moved))
    for name in ("return", "return_low", "return_high"):
        assert other[name].to_numpy() == pytest.approx(one[name].to_numpy() - 21)
    assert other["params"].to_numpy() == pytest.approx(one["params"].to_numpy())
    for form in ("best_of_grid", "parabola"):
        points = [laws.fitted[form]["return"]["points"] for laws in (plain, moved)]
        assert points[1]["value"].to_numpy() == pytest.approx(points[0]["value"].to_numpy() - 21)
    bounds = [laws.fitted["saturating"]["return"]["R_max_interval"] for laws in (plain, moved)]
    assert bounds[1][0] == pytest.approx(bounds[0][0] - 21)


def test_an_estimate_widens_exponents_and_forecasts():
    given, estimated = fit_laws(table(), lowest_return=-21), fit_laws(table())
    ends = estimated.fitted["lowest_return"]["interval"]
    assert ends[0] < -21 < ends[1]
    assert any(flag.startswith("returns below 0") for flag in estimated.flags)
    low, high = estimated.fitted["best_of_grid"]["return"]["optimum"]["interval"]
    truth = given.fitted["best_of_grid"]["return"]["optimum"]
    assert low < truth["exponent"] < high
    assert high - low > truth["interval"][1] - truth["interval"][0]
    row = estimated.forecast(3e17).iloc[0]
    assert row["return_low"] < given.forecast(3e17)["return"].iloc[0] < row["return_high"]


def test_returns_above_0_are_counted_from_0():
    runs = tidy(table(0.0), "test")
    assert (runs.lowest, runs.zero, runs.counted()) == (None, 0.0, runs)


def test_a_lowest_return_that_nothing_exceeds():
    with pytest.raises(InputError, match="lowest_return=1e\\+06: no return lies above"):
        fit_laws(table(), lowest_return=1e6)
    with pytest.raises(InputError, match="expert_return=-30"):
        fit_laws(table(), lowest_return=-21, expert_return=-30)


def test_fit_and_forecast_say_what_they_count_from(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    table().to_csv(path, index=False)
    options = {"bootstraps": 0, "forecast": [3e17], "measured": {"return": -1.0}}
    fit(source="csv", path=str(path), lowest_return=-21.0, output=str(tmp_path), **options)
    kept = json.loads((tmp_path / "fit.json").read_text())
    assert kept["lowest_return"] == {"value": -21.0, "interval": None}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "lowest_return=" in page
    assert "of what lies above −21" in page.replace("above -21", "above −21")
    assert "return above −21" in (tmp_path / "optimum_return.svg").read_text(encoding="utf-8")
    row = kept["forecast"][0]
    error = np.log((row["return"] + 21) / 20)
    assert row["comparison"]["return"]["log_error"] == pytest.approx(error)
    again = forecast(fit=str(tmp_path), budget=1e18, measured={"return": -2.0})
    assert again["lowest_return"] == -21
    assert "(above -21)" in capsys.readouterr().out
    reached = forecast(fit=str(tmp_path), **{"return": row["return"]})
    assert reached["flops"] == pytest.approx(3e17, rel=0.05)
    assert reached["value"] == row["return"]
    with pytest.raises(InputError, match="return=-22: give a return above -21"):
        forecast(fit=str(tmp_path), **{"return": -22.0})
