"""The latest budgets are those of the latest decades, not the last few of a fine grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.fitting import forms, recency, returns
from agent_scaling.scaling.fitting.recency import LATEST, RECENT
from tests.scaling.synthetic import optimum

USUAL = np.log([1e14, 2e14, 5e14, 1e15, 2e15, 5e15, 1e16, 2e16, 5e16, 1e17])


def test_of_the_usual_grid_they_are_three_and_six():
    for last in range(6, len(USUAL) + 1):
        assert recency.latest(USUAL[:last], RECENT) == 3
        assert recency.latest(USUAL[:last], LATEST) == 6
    assert recency.latest(USUAL[:2], RECENT) == 2
    assert recency.origins(USUAL, 5) == [5, 6, 7, 8, 9]


def test_of_a_fine_grid_they_span_as_many_decades():
    fine = np.log(np.geomspace(1e14, 1e17, 301))  # a hundredth of a decade apart
    assert recency.latest(fine, RECENT) == 61
    assert recency.latest(fine, LATEST) == 161
    assert np.diff(recency.origins(fine, 5)).tolist() == [15] * 19


def fine_at_the_top(seed):
    """Best cells of five decades, and six more within the last tenth of one; noise of 3 %."""
    flops = np.r_[np.geomspace(1e14, 1e18, 13), np.geomspace(1.02e18, 1.25e18, 6)]
    size, loss = optimum(flops)
    noisy = np.exp(0.03 * np.random.default_rng(seed).standard_normal((2, len(flops))))
    table = {"flops": flops, "params": size, "samples": flops / 6 / size, "loss": loss * noisy[0]}
    return pd.DataFrame(table | {"return": 150 * loss**-1.6 * noisy[1]})


@pytest.mark.parametrize("form", ["power_recent", "damped", "bounded", "two_stage"])
def test_a_fine_grid_at_the_top_does_not_make_forecasts_wild(form):
    ahead = np.array([np.log(3e19)])
    truth = np.log(150) - 1.6 * np.log(optimum(np.exp(ahead))[1])
    errors = [
        returns.return_forms(forms.LOSS_FORMS["power_recent"])[form](fine_at_the_top(seed), ahead)
        for seed in range(20)
    ]
    # By numbers of budgets, three and six, it was 0.48 to 1.21.
    assert np.mean([abs(found.mean - truth) for found in errors]) < 0.2
