"""Nominal 90 % intervals hold the truth of known laws in 85 to 95 % of 200 draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.fitting import analysis, returns, select
from agent_scaling.scaling.fitting.forecasts import compete
from agent_scaling.scaling.fitting.forms import LOSS_FORMS
from agent_scaling.scaling.laws import curves
from agent_scaling.scaling.laws.profiles import parabolas
from tests.scaling.synthetic import ALPHA, BETA, DELTA, known_cells, optimum, with_returns

DRAWS = 200


def share(hits):
    assert len(hits) >= DRAWS
    return float(np.mean(hits))


def holds(interval, truth):
    return interval[0] <= truth <= interval[1]


LAWS = {
    "off by 3": {"sizes": 7, "noise": 0.03, "off": 3.0},
    "asymmetric": {"sizes": 10, "noise": 0.005, "a": 12.0, "b": 3e6, "alpha": 0.3, "beta": 0.7},
    "without a floor": {"sizes": 10, "noise": 0.02, "off": 1 / 3, "e": 0.0},
    "dense": {"sizes": 15, "noise": 0.01},
}


@pytest.mark.parametrize("case", LAWS)
def test_minima_of_profiles_and_their_exponents(case):
    """Of every budget, at its size and at its loss: coarse, lopsided and noisy grids too."""
    law = LAWS[case]
    shape = {key: law[key] for key in ("e", "a", "b", "alpha", "beta") if key in law}
    alpha, beta = law.get("alpha", ALPHA), law.get("beta", BETA)
    exponents = {"N_opt": beta / (alpha + beta), "D_opt": alpha / (alpha + beta)}
    if law.get("e") == 0:  # else the lowest loss is no power of C
        exponents["optimum"] = -alpha * beta / (alpha + beta)
    found = {name: [] for name in (*exponents, "params", "value")}
    for seed in range(DRAWS):
        cells = known_cells(seed=seed, **law)
        points = parabolas(cells, "loss")
        table = analysis.exponents(points[~points["flag"].isin(["edge", "concave"])])
        for name, truth in exponents.items():
            found[name].append(holds(table[name]["interval"], truth))
        for name, truth in zip(("params", "value"), optimum(points["flops"], **shape), strict=True):
            missed = (points[f"{name}_low"] > truth) | (points[f"{name}_high"] < truth)
            found[name].append(np.mean(~missed[points["flag"] != "edge"]))
    for name, hits in found.items():
        assert 0.85 <= share(hits) <= 0.95, name


def test_return_from_loss():
    tables = [with_returns(known_cells(0.01, seed), seed) for seed in range(DRAWS)]
    hits = [holds(returns.from_loss(cells).interval(1), DELTA) for cells in tables]
    assert 0.85 <= share(hits) <= 0.95


def test_a_power_law_and_a_saturating_law():
    x = np.log(np.geomspace(1e14, 1e18, 13))
    floor, gamma = np.log(0.1), 0.35
    truth = curves.floor_curve(np.array([floor, gamma * 33.5, gamma]), x)
    hits = {"slope": [], "floor": [], "gamma": []}
    for seed in range(DRAWS):
        noise = 0.02 * np.random.default_rng(seed).standard_normal(len(x))
        hits["slope"].append(holds(curves.fit_power(x, 3 - 0.2 * x + noise).interval(1), -0.2))
        curve = curves.fit_saturating(x, truth + noise)
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
    monkeypatch.setattr("agent_scaling.scaling.fitting.forecasts.LOSS_FORMS", forms)


def test_forecasts_that_are_not_told_which_law_is_true(monkeypatch):
    """What is measured half a decade ahead is in the interval."""
    fast_forms(monkeypatch)
    flops = np.geomspace(1e14, 1e17, 10)
    ahead = np.log(3e17)
    theta = np.array([np.log(0.1), 0.35 * 33.5, 0.35])
    hits = []
    for seed in range(DRAWS):
        *noise, later = 0.03 * np.random.default_rng(seed).standard_normal(len(flops) + 1)
        cells = series(np.exp(curves.floor_curve(theta, np.log(flops)) + noise), flops)
        _, low, high = compete(cells, "loss", None, None).predict(cells, np.array([ahead]))
        hits.append(holds((low[0], high[0]), curves.floor_curve(theta, ahead) + later))
    assert 0.85 <= share(hits) <= 0.95


@pytest.mark.parametrize("noise", [0.0003, 0.03])
def test_only_a_decisive_form_replaces_the_average(monkeypatch, noise):
    fast_forms(monkeypatch)
    flops = np.geomspace(1e14, 1e18, 13)
    for name, curve in (
        ("power", 3 - 0.2 * np.log(flops)),
        ("saturating", curves.floor_curve(np.array([-2.3, 11.7, 0.35]), np.log(flops))),
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
