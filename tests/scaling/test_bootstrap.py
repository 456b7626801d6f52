"""The batched fits agree with the plain ones; resampling draws what it says."""

from __future__ import annotations

import numpy as np
import pytest

from agent_scaling.scaling.fitting.bootstrap import (
    as_grid,
    bootstrap_intervals,
    bootstrap_parametric,
    flags,
    resample,
    summarise,
)
from agent_scaling.scaling.laws import batched, curves, profiles
from tests.scaling.synthetic import known_law


def test_saturating_rows_agree_with_one_at_a_time():
    generator = np.random.default_rng(0)
    x = np.log(np.geomspace(1e14, 1e18, 13))
    y = np.log(0.1 + np.exp(-0.3 * (x - 33))) + 0.02 * generator.standard_normal((20, 13))
    y[3, 5] = np.nan
    found = batched.saturating(x, y)
    for row, (floor, gamma) in zip(y, found, strict=True):
        known = np.isfinite(row)
        curve = curves.fit_saturating(x[known], row[known])
        assert [floor, gamma] == pytest.approx([curve.theta[0], curve.theta[2]], abs=1e-4)


def test_slopes_agree_with_the_table():
    runs = known_law(noise=0.05, seed=3)
    grid = as_grid(runs)
    lines = profiles.best_of_grid(runs.cells, "loss")
    slope = curves.fit_power(np.log(lines["flops"].to_numpy()), np.log(lines["value"].to_numpy()))
    rows = batched.slopes(grid.log_c_K[None], batched.best(grid.loss_SRK.mean(1)[None])[1])
    assert rows[0] == pytest.approx(slope.theta[1])


def test_a_size_is_drawn_whole():
    """All budgets of a size are there or none: the points of one size are correlated."""
    grid = as_grid(known_law(noise=0.05, seed=1))
    loss, score = resample(grid, 200, np.random.default_rng(0))
    present = np.isfinite(loss)
    measured = np.isfinite(grid.loss_SRK).any(1)
    for row in present:
        for size, there in zip(row, measured, strict=True):
            assert not size.any() or np.array_equal(size, there)
    share = present.any(2).mean()
    assert share == pytest.approx(1 - (1 - 1 / len(grid.log_n_S)) ** len(grid.log_n_S), abs=0.02)
    assert np.array_equal(np.isfinite(score), present)


def test_episodes_are_resampled():
    grid = as_grid(known_law(noise=0.0, seed=1, episodes_sd=0.1))
    _, score = resample(grid, 2000, np.random.default_rng(0))
    spread = np.nanstd(score[:, 2], axis=0)
    assert spread == pytest.approx(0.1, rel=0.15)


def test_intervals_repeat_with_the_seed_and_hold_the_estimate():
    runs = known_law(noise=0.01, seed=2)
    first, again = bootstrap_intervals(runs, 300, 5), bootstrap_intervals(runs, 300, 5)
    assert first == again
    best = profiles.parabolas(runs.cells, "loss")
    usable = best[~best["flag"].isin(["edge", "concave"])]
    for name, column in (("N_opt", "params"), ("D_opt", "samples"), ("optimum", "value")):
        low, high = first["parabola"]["loss"][name]["interval"]
        assert low < np.polyfit(np.log(usable["flops"]), np.log(usable[column]), 1)[0] < high


@pytest.mark.parametrize("sizes", [3, 4])
def test_few_sizes_have_no_interval(sizes):
    """With three, each resample that can be fitted is the original: its interval had no width."""
    runs = known_law(noise=0.02, seed=2, budgets=10, sizes=sizes)
    found = bootstrap_intervals(runs, 40)
    found["parametric"] = bootstrap_parametric(runs, 40)
    assert found["parametric"]["E"]["interval"] is None
    assert found["parabola"]["loss"]["N_opt"]["interval"] is None
    why = f"{sizes} sizes to draw from, 5 are needed"
    assert flags(found) == [f"no bootstrap interval: any: {why}"]


def test_what_mostly_failed_or_never_moved_has_no_interval():
    drawn = np.random.default_rng(0).standard_normal(100)
    estimates = {
        "form/moves": drawn,
        "form/fails": np.where(np.arange(100) < 51, np.nan, drawn),
        "form/stays": 2.5 + 1e-12 * drawn,
        "form/never": np.full(100, np.nan),
    }
    found = summarise(estimates, 5)
    low, high = found["form"]["moves"]["interval"]
    assert low < found["form"]["moves"]["median"] < high
    assert flags(found) == [
        "no bootstrap interval: form fails: 49 of 100 resamples could be fitted",
        "no bootstrap interval: form stays: all resamples gave one value",
        "no bootstrap interval: form never: 0 of 100 resamples could be fitted",
    ]
