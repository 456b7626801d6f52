"""The noise of repeated runs is theirs, and each part of a fit says what it leans on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.fitting.analysis import laws_of
from agent_scaling.scaling.fitting.diagnostics import diagnostics, noise
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import known_law


def repeated(sd, runs=3):
    rows = known_law(noise=0.0, seed=0).rows
    generator = np.random.default_rng(0)
    parts = [
        rows.assign(loss=rows["loss"] * np.exp(sd * generator.standard_normal(len(rows))), run=i)
        for i in range(runs)
    ]
    return tidy(pd.concat(parts, ignore_index=True), "test")


def test_noise_is_pooled_over_repeated_cells():
    runs = repeated(0.05)
    found = noise(runs.rows, "loss")
    assert found["log_sd"] == pytest.approx(0.05, rel=0.1)
    assert found["spare"] == 2 * found["cells"]
    assert found["log_sd_of_lower"] == pytest.approx(0.05, rel=0.2)
    assert noise(known_law(noise=0.1, seed=0).rows, "loss") is None


def test_what_the_laws_lean_on():
    runs = known_law(noise=0.01, seed=1)
    fitted = laws_of(runs)
    found = diagnostics(runs, fitted)
    assert found["parametric_minima"] == fitted["parametric"]["minima"]
    assert max(row["rms"] for row in found["parametric_residuals"]) < 0.03
    lines = found["saturating_without_lowest"]
    assert [line["lowest"] for line in lines] == sorted(line["lowest"] for line in lines)
    rows = found["budgets"]["loss"]
    assert np.mean([row["optimum_residual"] for row in rows]) == pytest.approx(0, abs=1e-9)
    assert rows[0]["leverage"] > rows[len(rows) // 2]["leverage"]
