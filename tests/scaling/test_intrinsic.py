"""Intrinsic performance: recovered from drawn tables whose returns saturate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.fitting.intrinsic import intrinsic, law_of
from agent_scaling.scaling.laws.intrinsic import fit_intrinsic

LAWS = [(0.4, 0.5, 0.0), (0.8, 0.4, -0.5), (0.3, 0.6, 0.5)]
"""α_N, α_E, and the log ratio of the terms at 1e5 parameters and 1e5 interactions."""
COST, POWER, BOUND = 100.0, 0.9, 2.0
"""FLOPs of an interaction are COST · N^POWER; no return exceeds BOUND."""
TABLES = 20


def worth(law, params, frames):
    """β ln I by the formula."""
    a_n, a_e, offset = law
    return -np.log(np.exp(offset) * (params / 1e5) ** -a_n + (frames / 1e5) ** -a_e)


def table(law, noise, seed):
    sizes, budgets = np.geomspace(1e4, 1e6, 6), np.geomspace(1e10, 3e12, 6)
    params, flops = (axis.ravel() for axis in np.meshgrid(sizes, budgets))
    frames = flops / (COST * params**POWER)
    score = 1 / (np.exp(-0.8 * worth(law, params, frames)) + 1 / BOUND)
    score = score * np.exp(noise * np.random.default_rng(seed).standard_normal(len(score)))
    return pd.DataFrame({"params": params, "samples": frames, "flops": flops, "return": score})


def best_size(law, flops):
    """The best size by trying all."""
    sizes = np.geomspace(1e2, 1e9, 7001)
    return sizes[worth(law, sizes, flops / (COST * sizes**POWER)).argmax()]


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_intervals_hold_the_law(noise):
    held = []
    for law in LAWS:
        exponent, size = law[1] / (law[0] + POWER * law[1]), best_size(law, 3e12)
        for seed in range(TABLES):
            found = intrinsic(table(law, noise, seed))
            ends = {exponent: found["N_opt_interval"], size: found["params_interval"]}
            held.append([low <= truth <= high for truth, (low, high) in ends.items()])
    shares = np.mean(held, axis=0)
    print(f"noise {noise:.0%}: exponent {shares[0]:.0%}, size {shares[1]:.0%}")
    assert (shares > 0.8).all()


def test_performance_is_the_compute_of_the_best_size():
    law, cells = LAWS[0], table(LAWS[0], 1e-3, 0)
    found = intrinsic(cells)["cells"]
    budgets = np.geomspace(1e6, 1e13, 300)
    sizes = np.array([best_size(law, flops) for flops in budgets])
    best = worth(law, sizes, budgets / (COST * sizes**POWER))
    own = worth(law, cells["params"].to_numpy(), cells["samples"].to_numpy())
    truth = np.exp(np.interp(own, best, np.log(budgets)))
    assert found["performance"].to_numpy() == pytest.approx(truth, rel=0.05)
    assert found["share"].max() == pytest.approx(1.0, abs=0.05)
    assert law_of(cells).best_size(3e12) == pytest.approx(best_size(law, 3e12), rel=0.1)


def test_too_few_cells_have_no_law():
    cells = table(LAWS[0], 0.03, 0)
    assert intrinsic(cells[cells["params"] < 5e4].head(8)) is None
    assert intrinsic(cells[cells["params"] < 2e4]) is None  # one size
    columns = (cells[name].to_numpy()[:8] for name in ("params", "samples", "flops", "return"))
    with pytest.raises(ValueError, match="9 are needed"):
        fit_intrinsic(*columns)
