"""Forecasts of best sizes where the grid has them, and where it missed them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fitting.optimal_sizes import growth
from tests.scaling.synthetic import ALPHA, BETA, A, B, E, known_cells, optimum

AHEAD = [1e17, 1e18, 1e19]


def missed(side: str, seed: int) -> pd.DataFrame:
    """Five sizes, ten times as large as every optimum or larger, or as small or smaller."""
    flops = np.geomspace(1e14, 1e17, 7)
    best, _ = optimum(flops)
    ends = (10 * best[-1], 100 * best[-1]) if side == "below" else (best[0] / 100, best[0] / 10)
    size, budget = (part.ravel() for part in np.meshgrid(np.geomspace(*ends, 5), flops))
    frames = budget / 6 / size
    noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(size)))
    loss = (E + A / size**ALPHA + B / frames**BETA) * noise
    return pd.DataFrame({"params": size, "flops": budget, "samples": frames, "loss": loss})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", ["below", "above"])
def test_a_grid_that_missed_the_optima_bounds_them_on_one_side(side: str, seed: int) -> None:
    laws = fit_laws(missed(side, seed))
    found, truth = laws.forecast(AHEAD), optimum(np.array(AHEAD))[0]
    assert (found["params_low"] <= truth).all()
    assert (found["params_high"] >= truth).all()
    assert (found["params_low"] == 0).all() if side == "below" else (found["params_low"] > 0).all()
    assert np.isinf(found["params_high"]).all() == (side == "above")
    frames = np.array(AHEAD) / 6 / truth
    assert (found["frames_low"] <= frames).all()
    assert (found["frames_high"] >= frames).all()
    lines = [flag for flag in laws.fitted["flags"] if flag.startswith("grid missed the optimum: ")]
    assert f"N_opt lies {side}" in lines[0]


def test_a_grid_around_the_optima_has_intervals_with_two_ends() -> None:
    laws = fit_laws(known_cells(0.01, 0, budgets=7, sizes=7))
    found = laws.forecast(AHEAD)
    assert (found["params_low"] > 0).all()
    assert np.isfinite(found["params_high"]).all()
    assert not any("grid missed" in flag for flag in laws.flags)


def test_a_line_through_few_optima_is_drawn_to_known_exponents() -> None:
    """Nearer to the truth than least squares two decades ahead, and its interval holds."""
    at, ahead = np.log(np.geomspace(1e14, 1e16, 6)), np.log([1e18])
    errors, plain, held = [], [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        own, slope = generator.uniform(0.1, 0.6, 6), generator.normal(0.52, 0.1)
        value = 10 + slope * (at - at.mean()) + own * generator.standard_normal(6)
        truth = 10 + slope * (ahead - at.mean())
        mean, half = growth(at, value, own, ahead)
        errors.append(abs(mean - truth)[0])
        held.append(abs(mean - truth)[0] <= half[0])
        plain.append(abs(np.polyval(np.polyfit(at, value, 1), ahead) - truth)[0])
    assert np.mean(errors) < 0.75 * np.mean(plain)
    assert 0.85 <= np.mean(held) <= 1.0


def test_many_exact_optima_keep_their_exponent() -> None:
    at = np.log(np.geomspace(1e14, 1e18, 13))
    mean, _ = growth(at, 0.7 * at, np.full(13, 1e-3), at[-1] + np.log([1.0, 100.0]))
    assert (mean[1] - mean[0]) / np.log(100) == pytest.approx(0.7, abs=0.01)
