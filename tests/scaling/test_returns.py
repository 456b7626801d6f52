"""Forms of return: bounded, saturating at the expert, two stages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fitting import returns
from agent_scaling.scaling.fitting.forecasts import compete
from agent_scaling.scaling.fitting.forms import LOSS_FORMS
from tests.scaling.synthetic import DELTA, known_law

FLOPS = np.geomspace(1e14, 1e17, 10)


def bounded_table(most=500.0, noise=0.0):
    shift = np.exp(noise * np.random.default_rng(0).standard_normal(len(FLOPS)))
    score = shift / (1 / most + 1e6 * FLOPS**-0.55)
    loss = 0.1 + 50 * FLOPS**-0.12
    return pd.DataFrame(
        {"flops": FLOPS, "params": 1e6, "samples": 1e8, "loss": loss, "return": score}
    )


def test_a_bound_is_found_and_approached():
    cells = bounded_table()
    curve = returns.fit_bounded(cells)
    assert np.exp(-curve.theta[0]) == pytest.approx(500, rel=1e-3)
    far = returns.bounded(cells, np.array([np.log(1e25)]))
    assert np.exp(far.mean[0]) == pytest.approx(500, rel=1e-2)


@pytest.mark.parametrize("lowest", [0.0, -20.0])
def test_a_sigmoid_in_log_compute_is_recovered(lowest):
    """The parameters of R_0 + (A - R_0) / (1 + (C_half / C)^B), as ScaleRL writes it."""
    most, half, power = 500.0, 3e15, 0.6
    rows = [
        {"flops": c, "params": n, "samples": c / 6 / n, "return": lowest + share * gain}
        for c in FLOPS
        for gain in [(most - lowest) / (1 + (half / c) ** power)]
        for n, share in ((1e4, 0.6), (1e5, 1.0), (1e6, 0.5))
    ]
    laws = fit_laws(pd.DataFrame(rows), lowest_return=lowest or None)
    found = laws.fitted["saturating"]["return"]
    assert found["R_max"] == pytest.approx(most, rel=1e-3)
    assert found["half_at"] == pytest.approx(half, rel=1e-2)
    assert found["gamma"] == pytest.approx(power, rel=1e-3)


def test_return_saturates_at_the_expert_s_score():
    cells = bounded_table()
    found = returns.at_expert(cells, np.log([1e18, 1e25]), 500.0)
    want = 1 / (1 / 500 + 1e6 * 1e18**-0.55)
    assert np.exp(found.mean) == pytest.approx([want, 500], rel=1e-3)
    with pytest.raises(ValueError, match="below the expert"):
        returns.at_expert(cells, np.log([1e18]), 1.0)


def test_the_expert_enters_the_average_only_where_it_predicts_better():
    cells = bounded_table(noise=0.01)
    loss = LOSS_FORMS["power"]
    assert "expert" in compete(cells, "return", loss, 500.0).averaged
    wrong = compete(cells, "return", loss, 5e6)
    assert "expert" in wrong.checks
    assert "bounded" in wrong.averaged
    assert "expert" not in compete(cells, "return", loss, None).checks


def test_two_stages_follow_the_loss():
    cells = known_law(noise=0.0, seed=0, episodes_sd=0.0).cells
    x = np.log([3e17])
    loss = returns.averaged_loss(cells, x)
    found = returns.two_stage(cells, x, returns.averaged_loss)
    assert found.mean == pytest.approx(np.log(150) + DELTA * loss.mean, abs=1e-6)
    assert found.error[0] >= abs(DELTA) * loss.error[0] * 0.999
    bounded = returns.two_stage(cells, x, returns.averaged_loss, bounded=True)
    assert bounded.mean == pytest.approx(found.mean, abs=0.02)  # nothing bounds this return
