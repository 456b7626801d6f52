"""Tables without isoFLOP profiles, and values that no law can have."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fitting.outliers import outliers
from agent_scaling.scaling.laws.curves import GAMMAS, RATIOS, shapes
from agent_scaling.scaling.laws.parametric import Parametric, nonnegative, normal_equations
from tests.scaling.synthetic import known_cells, optimum, with_returns

CHINCHILLA = {"e": 1.8172, "a": 482.0, "b": 2085.4, "alpha": 0.3478, "beta": 0.3658}
"""The law that Besiroglu et al. (2024) found in the 240 points of Hoffmann et al. (2022)."""


def scattered(count=240, noise=0.005, seed=0):
    """Runs whose sizes and budgets nobody laid out in profiles, as those 240 points are."""
    generator = np.random.default_rng(seed)
    flops = np.exp(generator.uniform(np.log(1e18), np.log(1e22), count))
    size = optimum(flops, **CHINCHILLA)[0] * np.exp(generator.uniform(-1.5, 1.5, count))
    frames = flops / 6 / size
    law = CHINCHILLA
    loss = law["e"] + law["a"] / size ** law["alpha"] + law["b"] / frames ** law["beta"]
    loss *= np.exp(noise * generator.standard_normal(count))
    table = {"flops": flops, "params": size, "samples": frames, "loss": loss}
    return pd.DataFrame(table | {"return": 100 * loss**-1.6})


def test_a_table_without_profiles_is_forecast_by_the_law_of_two_variables():
    found = fit_laws(scattered(), bootstraps=10)
    law = found.fitted["parametric"]
    assert law["E"] == pytest.approx(CHINCHILLA["e"], abs=0.05)
    assert law["alpha"] == pytest.approx(CHINCHILLA["alpha"], abs=0.02)
    assert law["beta"] == pytest.approx(CHINCHILLA["beta"], abs=0.02)
    assert found.fitted["chosen"]["loss"] == "parametric"
    (row,) = found.forecast(1e24).to_dict("records")
    size, loss = optimum(np.array([1e24]), **CHINCHILLA)
    truth = {"params": size[0], "frames": 1e24 / 6 / size[0], "loss": loss[0]}
    for name, value in truth.items():
        assert row[f"{name}_low"] < value < row[f"{name}_high"]
    assert row["loss"] == pytest.approx(loss[0], rel=0.01)
    assert row["loss_high"] / row["loss_low"] < 1.5
    assert row["return_low"] < 100 * loss[0] ** -1.6 < row["return_high"]
    best = found.fitted["best_of_grid"]["loss"]["N_opt"]
    assert best["exponent"] is None
    assert "budgets have three sizes" in best["reason"]
    kinds = {flag.partition(": ")[0] for flag in found.flags}
    assert {"no isoFLOP structure", "no profiles"} <= kinds


def test_one_size_a_budget_and_no_law_make_no_forecast_of_sizes():
    found = fit_laws(scattered(6))
    assert "params" not in found.forecast(1e24)
    assert any(flag.startswith("no forecast of sizes: ") for flag in found.flags)


def test_sizes_of_a_budget_that_are_almost_equal_are_no_choice():
    """Such as those of seeds whose vocabularies differ: their best is the layout's, too."""
    ladder = scattered(6)
    near = [ladder.assign(params=ladder["params"] * (1 + share)) for share in (0, 0.01, 0.03)]
    found = fit_laws(pd.concat(near))
    best = found.fitted["best_of_grid"]["loss"]["N_opt"]
    assert best["exponent"] is None
    assert "0 of 6 budgets have three sizes" in best["reason"]
    assert found.exponents.set_index("quantity").loc[["N_opt", "D_opt"], "exponent"].isna().all()


@pytest.fixture(scope="module")
def table():
    return with_returns(known_cells(0.01, 0, budgets=6, sizes=6), 0)


@pytest.mark.parametrize("unit", [1e300, 1e-300])
def test_laws_do_not_depend_on_the_unit_of_loss(table, unit):
    known, other = fit_laws(table), fit_laws(table.assign(loss=unit * table["loss"]))
    for name in ("alpha", "beta", "N_opt"):
        want = known.fitted["parametric"][name]
        assert other.fitted["parametric"][name] == pytest.approx(want, rel=1e-6)
    forecasts = [laws.forecast(1e19).iloc[0] for laws in (known, other)]
    assert forecasts[1]["loss"] / unit == pytest.approx(forecasts[0]["loss"], rel=1e-6)
    assert forecasts[1]["params"] == pytest.approx(forecasts[0]["params"], rel=1e-6)


def test_infinite_and_outlying_losses_are_named(table):
    wrong = table.copy()
    wrong.loc[3, "loss"], wrong.loc[14, "loss"] = np.inf, 3 * wrong.loc[14, "loss"]
    flags = fit_laws(wrong).flags
    (infinite,) = [flag for flag in flags if flag.startswith("no logarithm: ")]
    assert "has loss inf; left out of fits" in infinite
    (outlier,) = [flag for flag in flags if flag.startswith("outlier: ")]
    assert f"{wrong.loc[14, 'params']:.0f} parameters has loss" in outlier
    assert not outliers(table, "loss")


def test_a_constant_loss_takes_no_longer_than_others(table):
    started = time.process_time()
    found = fit_laws(table.assign(loss=2.0), bootstraps=100)
    assert time.process_time() - started < 10  # more than a minute where Newton's steps went on
    assert found.fitted["parametric"] is None
    assert found.forecast(1e19)["loss"].item() == pytest.approx(2.0, rel=1e-4)


def test_the_starts_grid_solves_each_design_alone() -> None:
    rng = np.random.default_rng(0)
    constant, first, second = (rng.random(shape) + 0.1 for shape in ((9,), (4, 9), (3, 9)))
    gram, right = normal_equations(constant, first, second)
    found, squares = nonnegative(gram, right, 9)
    for number, (one, other) in enumerate(product(first, second)):
        design = np.stack([constant, one, other], 1)
        want, rest = optimize.nnls(design, np.ones(9))
        assert found[number] == pytest.approx(want, abs=1e-8)
        assert squares[number] == pytest.approx(rest**2)


@pytest.mark.parametrize("farthest", [3.0, 20.0, 600.0])
def test_the_shapes_of_starts_are_those_of_the_formula(farthest: float) -> None:
    x = np.linspace(-farthest, 0, 7)
    by_formula = np.logaddexp(RATIOS[:, None, None], -GAMMAS[:, None] * x)
    np.testing.assert_allclose(shapes(x), by_formula, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("seed", range(40))
def test_the_best_size_is_that_of_a_look_at_all_sizes(seed: int) -> None:
    """Bit for bit, also where the floor hides what sizes change, and where powers overflow."""
    random = np.random.default_rng(seed)
    sizes = np.sort(random.uniform(5, 20, random.integers(1, 12)))
    theta = np.r_[random.uniform(-40, 3), random.uniform(-20, 5, 2), random.uniform(-0.1, 2, 2)]
    theta[:3] += random.uniform(-600, 600) * (seed % 8 == 0)
    theta[3:] *= seed % 5 > 0
    cost = np.stack([sizes, random.uniform(1, 4, len(sizes))])
    law = Parametric(theta, np.array([10.0, 15.0]), 0.0, 0.0, True, [0.0], cost, 9)
    log_flops = np.sort(random.uniform(20, 60, random.integers(0, 30)))
    width = max(np.ptp(sizes), 1.0)
    log_n = np.linspace(sizes[0] - width, sizes[-1] + 2 * width, 2000)
    every = law.log_loss(log_n, log_flops[:, None] - log_n - np.interp(log_n, *cost))
    loss, best = law.optimum(log_flops)
    np.testing.assert_array_equal(loss, every.min(1))
    np.testing.assert_array_equal(best, log_n[every.argmin(1)])
