"""Nominal 90 % intervals hold the truth of known laws in 85 to 95 % of 200 draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling import analysis, laws, returns, select
from agent_scaling.scaling.forms import LOSS_FORMS
from agent_scaling.scaling.profiles import best_of_grid, parabolas
from tests.scaling.synthetic import DELTA, N_OPT, known_law

DRAWS = 200


def share(hits):
    assert len(hits) >= DRAWS
    return float(np.mean(hits))


def holds(interval, truth):
    return interval[0] <= truth <= interval[1]


def test_exponents_of_a_known_grid():
    sizes, slopes = [], []
    for seed in range(DRAWS):
        cells = known_law(noise=0.01, seed=seed).cells
        points = parabolas(cells, "loss")
        usable = points[~points["flag"].isin(["edge", "concave"])]
        law = analysis.exponent(usable["flops"], usable["params"])
        sizes.append(holds(law["interval"], N_OPT))
        slopes.append(holds(returns.from_loss(cells).interval(1), DELTA))
    assert 0.85 <= share(sizes) <= 0.95
    assert 0.85 <= share(slopes) <= 0.95


def test_a_power_law_and_a_saturating_law():
    x = np.log(np.geomspace(1e14, 1e18, 13))
    floor, gamma = np.log(0.1), 0.35
    truth = laws.floor_curve(np.array([floor, gamma * 33.5, gamma]), x)
    hits = {"slope": [], "floor": [], "gamma": []}
    for seed in range(DRAWS):
        noise = 0.02 * np.random.default_rng(seed).standard_normal(len(x))
        hits["slope"].append(holds(laws.fit_power(x, 3 - 0.2 * x + noise).interval(1), -0.2))
        curve = laws.fit_saturating(x, truth + noise)
        assert curve.converged
        hits["floor"].append(holds(curve.interval(0), floor))
        hits["gamma"].append(holds(curve.interval(2), gamma))
    for found in hits.values():
        assert 0.85 <= share(found) <= 0.95


def test_forecasts_of_the_form_that_was_chosen():
    """Not told which law is true; what is measured half a decade ahead is in the interval."""
    forms = {name: form for name, form in LOSS_FORMS.items() if name != "parametric"}
    flops = np.geomspace(1e14, 1e17, 10)
    ahead = np.log(3e17)
    theta = np.array([np.log(0.1), 0.35 * 33.5, 0.35])
    hits = []
    for seed in range(DRAWS):
        *noise, later = 0.03 * np.random.default_rng(seed).standard_normal(len(flops) + 1)
        loss = np.exp(laws.floor_curve(theta, np.log(flops)) + noise)
        table = {"flops": flops, "params": 1e6, "samples": 1e8, "loss": loss, "return": np.nan}
        cells = pd.DataFrame(table)
        checks = select.rolling_origin(cells, best_of_grid(cells, "loss"), forms)
        name = select.choose(checks, "power")
        found = select.predict(forms, name, checks, cells, np.array([ahead]))
        low, high = select.interval(found)
        hits.append(holds((low[0], high[0]), laws.floor_curve(theta, ahead) + later))
    assert 0.85 <= share(hits) <= 0.95


def test_choice_prefers_what_predicted():
    flops = np.geomspace(1e14, 1e18, 13)
    for name, curve in (
        ("power", 3 - 0.2 * np.log(flops)),
        ("saturating", laws.floor_curve(np.array([-2.3, 11.7, 0.35]), np.log(flops))),
    ):
        shifts = 0.003 * np.random.default_rng(1).standard_normal(len(flops))
        table = {"flops": flops, "params": 1e6, "samples": 1e8, "loss": np.exp(curve + shifts)}
        cells = pd.DataFrame(table | {"return": np.nan})
        forms = {form: LOSS_FORMS[form] for form in ("power", "saturating")}
        checks = select.rolling_origin(cells, best_of_grid(cells, "loss"), forms)
        assert select.choose(checks, "none") == name
        errors = checks[name].errors
        assert (errors["flops"] > errors["origin"]).all()
        assert errors["error"].abs().max() < 0.1


def test_too_few_budgets_choose_the_default():
    assert select.choose({}, "power") == "power"
    table = {"flops": [1e14, 1e15, 1e16], "params": 1e6, "samples": 1e8, "loss": [3.0, 2.0, 1.0]}
    cells = pd.DataFrame(table | {"return": np.nan})
    with pytest.raises(ValueError, match="4 are needed"):
        LOSS_FORMS["power"](cells, np.array([40.0]))
