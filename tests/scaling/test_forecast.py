"""A forecast is the fit's own, and says how far off it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.forecast import forecast
from tests.scaling.synthetic import known_law, optimum


@pytest.fixture
def fitted(tmp_path):
    rows = known_law(noise=0.01, seed=1, budgets=7, sizes=7).rows
    path = tmp_path / "runs.csv"
    rows.to_csv(path, index=False)
    options = {"bootstraps": 0, "figures": False, "output": str(tmp_path)}
    return fit(source="csv", path=str(path), forecast=[3e17], **options)


def test_the_fit_s_own_row_and_new_budgets(fitted, tmp_path):
    assert forecast(fit=str(tmp_path), budget=3e17) == fitted["forecast"][0]
    row = forecast(fit=str(tmp_path / "fit.json"), budget=2e17)
    assert fitted["forecast"][0]["loss"] < row["loss"]
    params, _ = optimum(np.array(2e17))
    assert row["params"] == pytest.approx(params, rel=0.15)  # sizes lie a factor of 4 apart


def test_comparison_with_what_was_measured(fitted, tmp_path):
    row = fitted["forecast"][0]
    measured = {"loss": 0.9 * row["loss"], "return": 100 * row["return"]}
    out = tmp_path / "check"
    forecast(fit=str(tmp_path), budget=3e17, measured=measured, output=str(out))
    found = json.loads((out / "forecast.json").read_text())["comparison"]
    assert found["loss"]["log_error"] == pytest.approx(-np.log(0.9))
    assert not found["return"]["within"]


def test_bad_input(fitted, tmp_path):
    with pytest.raises(InputError, match=r"not a fit\.json"):
        forecast(fit=str(tmp_path / "none"), budget=1e17)
    with pytest.raises(InputError, match="above 0"):
        forecast(fit=str(tmp_path), budget=0)
    with pytest.raises(InputError, match=r"measured\.speed"):
        forecast(fit=str(tmp_path), budget=3e17, measured={"speed": 1.0})
