"""A forecast is the fit's own, and says how far off it was."""

from __future__ import annotations

import json
from inspect import signature

import numpy as np
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit, read
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.runs.fit_file import Origin
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


FIT = {
    "origin": {"source": "csv", "path": "runs.csv"},
    "budgets": [1e12, 1e17],
    "forecast": [
        {"flops": 3e17, "params": 1e6, "params_interval": [None, None]}
        | {"loss": 0.5, "loss_interval": [0.4, 0.6], "return": None, "return_interval": [1.0, None]}
    ],
}
"""As much of a fit's file as a forecast of its own budget needs."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin": {"source": "csv", "output": "/tmp/victim"}}, "output"),
        ({"origin": {"source": "csv", "where": {"game": {"_target_": "os.system"}}}}, "where"),
        ({"origin": {"source": ["csv"]}}, "source"),
        ({"origin": {"source": "csv", "path": "/dev/zero"}}, "is no file"),
        ({"origin": {"source": "csv", "path": "a" * 5000}}, "File name too long"),
        ({"budgets": ["1e12", "1e18"]}, "budgets"),
        ({"forecast": [{"flops": 3e17, "loss": "<b>1</b>", "loss_interval": [1, 2]}]}, "loss"),
        ({"forecast": [{"flops": 3e17, "folder": "/tmp/victim"}]}, "folder"),
        ({"expert_return": "-1"}, "expert_return"),
        ({"parabola": {"loss": {"N_opt": {"exponent": 1e308, "log_coefficient": 0}}}}, "exponent"),
    ],
)
def test_a_fit_that_says_what_no_fit_does_is_refused(tmp_path, change, message):
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(FIT | change))
    with pytest.raises(InputError, match=message) as refused:
        forecast(fit=str(path), budget=2e17)
    assert "\n" not in str(refused.value)


def test_a_fit_may_name_each_way_to_read_its_runs():
    assert Origin.__annotations__.keys() == signature(read).parameters.keys() - {"budgets"}


def test_a_forecast_without_an_end_has_an_open_interval(tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(FIT))
    row = forecast(fit=str(path), budget=3e17)
    assert row["params_interval"] == [0.0, np.inf]
    assert "return" not in row
