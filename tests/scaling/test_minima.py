"""The minima of profiles: where a law puts them, whatever the sizes, and what cannot be known."""

from __future__ import annotations

import numpy as np
import pytest

from agent_scaling.scaling.laws import minima, profiles
from tests.scaling.synthetic import known_cells, optimum

FLOPS = np.geomspace(1e14, 1e17, 10)


@pytest.mark.parametrize("sizes", [5, 7, 10, 15])
def test_minima_of_an_asymmetric_law_are_not_biased(sizes):
    """Without noise a parabola through these sizes is up to 40 % off in N."""
    law = {"alpha": 0.3, "beta": 0.7, "a": 12.0, "b": 3e6}
    points = profiles.parabolas(known_cells(0.0, 0, sizes=sizes, **law), "loss")
    params, loss = optimum(FLOPS, **law)
    assert points["params"].to_numpy() == pytest.approx(params, rel=1e-3)
    assert points["value"].to_numpy() == pytest.approx(loss, rel=3e-4)
    assert points["samples"].to_numpy() == pytest.approx(FLOPS / 6 / params, rel=1e-3)


def test_the_exponents_are_found_and_where_noise_hides_them_the_prior_is():
    size, clean = np.linspace(8, 18, 12), np.geomspace(0.01, 1, 8)[:, None]
    law = 0.1 + np.exp(8 - 0.3 * size) * clean + np.exp(-6 + 0.6 * size) * clean
    found = minima.shared_shape(size, np.log(law))
    assert np.exp(found.mean) == pytest.approx([0.3, 0.6], rel=1e-3)
    noise = 3 * np.random.default_rng(0).standard_normal(law.shape)
    lost = minima.shared_shape(size, np.log(law) + noise)
    assert (np.sqrt(np.diag(lost.covariance)) > 0.3).all()
    assert (np.sqrt(np.diag(found.covariance)) < 1e-3).all()


def test_fieller_interval_by_its_definition():
    """Its ends are the sizes at which the curve's slope is just not significantly off 0."""
    generator = np.random.default_rng(1)
    x = np.linspace(-2, 2, 7)
    y = np.log(1 + 0.1 * x**2) + 0.005 * generator.standard_normal((1, 7))
    exponents = np.array([0.4, 0.5])
    found = minima.find(x, y, np.log(exponents))
    assert found.taken.sum() == 5
    taken = found.taken[0]
    v = np.exp(y[0, taken])
    alpha, beta = exponents
    design = np.stack([np.ones(5), np.exp(-alpha * x[taken]), np.exp(beta * x[taken])], 1)
    weighted = design / v[:, None]
    theta, square = np.linalg.lstsq(weighted, np.ones(5), rcond=None)[:2]
    covariance = square / 2 * np.linalg.inv(weighted.T @ weighted)
    for end in (found.low[0], found.high[0]):
        slope = np.array([0, -alpha * np.exp(-alpha * end), beta * np.exp(beta * end)])
        t = slope @ theta / np.sqrt(slope @ covariance @ slope)
        assert abs(t) == pytest.approx(2.920, abs=1e-3)  # t of 90 %, two degrees of freedom


def test_what_has_no_minimum_says_so():
    x = np.linspace(0, 4, 5)
    y = np.stack([1 - 0.3 * x, 0.1 * x, np.sin(x / 4 * np.pi), *[(x - 2) ** 2 / 9] * 2])
    y[4, 3:] = np.nan  # three sizes, the lowest the last
    found = minima.find(x, y, np.log([0.4, 0.4]))
    assert found.inside.tolist() == [False, False, False, True, True]
    assert found.concave.tolist() == [False, False, True, False, False]
    assert np.isfinite(found.low).tolist() == [False, False, False, True, False]
    y[4, 2] = np.nan
    assert np.isnan(minima.find(x, y, np.log([0.4, 0.4])).log_n[4])


def test_a_dense_grid_uses_all_sizes_near_the_best():
    x = np.log(np.geomspace(1e3, 1e6, 31))
    y = (x - x.mean())[None] ** 2
    assert minima.nearest(x, y).sum() == 2 * int(np.log(6) / (x[1] - x[0])) + 1
    assert minima.nearest(x[::4], y[:, ::4]).sum() == 5


def test_interval_of_a_return_has_its_low_end_below():
    cells = known_cells(0.01, 3)
    cells["return"] = 100 / cells["loss"]
    points = profiles.parabolas(cells, "return")
    ends = points[["value_low", "value", "value_high"]].to_numpy()
    assert (np.diff(ends, axis=1) > 0).all()
    loss = profiles.parabolas(cells, "loss")
    assert points["value"].to_numpy() == pytest.approx(100 / loss["value"].to_numpy())
    assert points["params"].to_numpy() == pytest.approx(loss["params"].to_numpy())
