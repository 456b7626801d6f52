"""Nominal 90 % intervals hold the truth of known laws in 85 to 95 % of 200 draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling import analysis, laws, returns, select
from agent_scaling.scaling.forecasts import compete
from agent_scaling.scaling.forms import LOSS_FORMS
from agent_scaling.scaling.profiles import parabolas
from tests.scaling.synthetic import DELTA, N_OPT, known_law, optimum

DRAWS = 200


def share(hits):
    assert len(hits) >= DRAWS
    return float(np.mean(hits))


def holds(interval, truth):
    return interval[0] <= truth <= interval[1]


def test_exponents_and_minima_of_a_known_grid():
    found = {"N_opt": [], "D_opt": [], "minimum": [], "return from loss": []}
    for seed in range(DRAWS):
        cells = known_law(noise=0.01, seed=seed, sizes=15).cells
        points = parabolas(cells, "loss")
        usable = points[~points["flag"].isin(["edge", "concave"])]
        for name, column, truth in (("N_opt", "params", N_OPT), ("D_opt", "samples", 1 - N_OPT)):
            law = analysis.exponent(usable["flops"], usable[column])
            found[name].append(holds(law["interval"], truth))
        middle = points.iloc[len(points) // 2]
        truth, _ = optimum(np.array(middle["flops"]))
        unbounded = not np.isfinite(middle["params_low"])
        bounds = middle["params_low"], middle["params_high"]
        found["minimum"].append(unbounded or holds(bounds, truth))
        found["return from loss"].append(holds(returns.from_loss(cells).interval(1), DELTA))
    for name, hits in found.items():
        assert 0.85 <= share(hits) <= 0.95, name


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


def series(loss, flops):
    table = {"flops": flops, "params": 1e6, "samples": 1e8, "loss": loss, "return": np.nan}
    return pd.DataFrame(table)


def fast_forms(monkeypatch):
    """Without the law of two variables, which one size per budget cannot tell."""
    forms = {name: form for name, form in LOSS_FORMS.items() if name != "parametric"}
    monkeypatch.setattr("agent_scaling.scaling.forecasts.LOSS_FORMS", forms)


def test_forecasts_that_are_not_told_which_law_is_true(monkeypatch):
    """What is measured half a decade ahead is in the interval."""
    fast_forms(monkeypatch)
    flops = np.geomspace(1e14, 1e17, 10)
    ahead = np.log(3e17)
    theta = np.array([np.log(0.1), 0.35 * 33.5, 0.35])
    hits = []
    for seed in range(DRAWS):
        *noise, later = 0.03 * np.random.default_rng(seed).standard_normal(len(flops) + 1)
        cells = series(np.exp(laws.floor_curve(theta, np.log(flops)) + noise), flops)
        _, low, high = compete(cells, "loss", None, None).predict(cells, np.array([ahead]))
        hits.append(holds((low[0], high[0]), laws.floor_curve(theta, ahead) + later))
    assert 0.85 <= share(hits) <= 0.95


@pytest.mark.parametrize("noise", [0.0003, 0.03])
def test_only_a_decisive_form_replaces_the_average(monkeypatch, noise):
    fast_forms(monkeypatch)
    flops = np.geomspace(1e14, 1e18, 13)
    for name, curve in (
        ("power", 3 - 0.2 * np.log(flops)),
        ("saturating", laws.floor_curve(np.array([-2.3, 11.7, 0.35]), np.log(flops))),
    ):
        shifts = noise * np.random.default_rng(1).standard_normal(len(flops))
        chosen = compete(series(np.exp(curve + shifts), flops), "loss", None, None)
        assert chosen.name.startswith(name if noise < 0.001 else select.AVERAGE)
        errors = chosen.checks[name].errors
        assert (errors["flops"] > errors["origin"]).all()


def test_too_few_budgets_choose_the_average():
    assert select.choose({}) == select.AVERAGE
    cells = series([3.0, 2.0, 1.0], [1e14, 1e15, 1e16])
    with pytest.raises(ValueError, match="4 are needed"):
        LOSS_FORMS["power"](cells, np.array([40.0]))


def test_the_average_is_of_logarithms():
    parts = [select.Prediction(np.array([v]), np.array([e])) for v, e in ((1, 0.1), (2, 0.3))]
    found = select.average(parts)
    assert (found.mean[0], found.error[0]) == pytest.approx((1.5, 0.2))
    with pytest.raises(ValueError, match="no form"):
        select.average([])


def test_intervals_widen_ahead_and_with_past_errors():
    found = select.Prediction(np.zeros(2), np.full(2, 0.01))
    ratio = np.array([2.0, 100.0])
    checks = [select.Validation(pd.DataFrame(), 0.1, scale, 5) for scale in (1.0, 3.0)]
    narrow, wide = (select.interval(found, c, ratio, 0.1)[1] for c in checks)
    assert narrow[0] < narrow[1]
    assert wide == pytest.approx(3 * narrow)
