"""The batched fits agree with the plain ones; resampling draws what it says."""

from __future__ import annotations

import numpy as np
import pytest

from agent_scaling.scaling import batched, laws, profiles
from agent_scaling.scaling.bootstrap import as_grid, bootstrap_intervals, resample
from tests.scaling.synthetic import known_law


def test_saturating_rows_agree_with_one_at_a_time():
    generator = np.random.default_rng(0)
    x = np.log(np.geomspace(1e14, 1e18, 13))
    y = np.log(0.1 + np.exp(-0.3 * (x - 33))) + 0.02 * generator.standard_normal((20, 13))
    y[3, 5] = np.nan
    found = batched.saturating(x, y)
    for row, (floor, gamma) in zip(y, found, strict=True):
        known = np.isfinite(row)
        curve = laws.fit_saturating(x[known], row[known])
        assert [floor, gamma] == pytest.approx([curve.theta[0], curve.theta[2]], abs=1e-4)


def test_slopes_agree_with_the_table():
    runs = known_law(noise=0.05, seed=3)
    grid = as_grid(runs)
    lines = profiles.best_of_grid(runs.cells, "loss")
    slope = laws.fit_power(np.log(lines["flops"].to_numpy()), np.log(lines["value"].to_numpy()))
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
