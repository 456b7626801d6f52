"""Budgets with fewer than three sizes add their cells to a table and spoil nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.laws import profiles
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import N_OPT, known_cells, with_returns

NEW = {"flops": 1e18, "params": 3e7, "samples": 1e18 / 6 / 3e7, "loss": 0.2, "return": 1500.0}
"""A run that was made to check a forecast: a budget and a size of its own."""


def with_a_check(budgets=5):
    cells = with_returns(known_cells(0.01, 0, budgets, sizes=6), 0)
    return pd.concat([cells, pd.DataFrame([NEW])], ignore_index=True)


def test_a_size_that_only_a_sparse_budget_has_changes_no_profile(tmp_path):
    table = with_a_check()
    table.to_csv(tmp_path / "runs.csv", index=False)
    fitted = fit(
        source="csv",
        path=str(tmp_path / "runs.csv"),
        bootstraps=20,
        figures=False,
        output=f"{tmp_path}",
    )
    assert any("few points: 1e+18 FLOPs has 1 sizes with loss" in f for f in fitted["flags"])
    for target in ("loss", "return"):
        alone = profiles.parabolas(tidy(table[:-1], "test").cells, target)
        found = fitted["parabola"][target]["points"]
        for name in ("flops", "params", "samples", "value", "params_low", "params_high"):
            assert found[name].to_numpy() == pytest.approx(alone[name].to_numpy(), nan_ok=True)
    assert fitted["bootstrap"]["parabola"]["loss"]["N_opt"]["resamples"] >= 15


def test_sizes_are_forecast_from_three_profiles_rather_than_from_a_sparse_budget():
    cells = known_cells(0.0, 0, budgets=3, sizes=7)
    alone = {"flops": 1e18, "params": 1e9, "samples": 1e18 / 6e9, "loss": 0.3}
    found = fit_laws(pd.concat([cells, pd.DataFrame([alone])], ignore_index=True))
    ahead = found.forecast([1e18, 1e20])["params"].to_numpy()
    assert np.log(ahead[1] / ahead[0]) / np.log(100) == pytest.approx(N_OPT, abs=5e-3)
