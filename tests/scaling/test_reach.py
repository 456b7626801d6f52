"""A forecast backwards gives the budget of a loss or a return, and says where there is none."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.reach import reach
from tests.scaling.synthetic import DELTA, known_law, optimum

AHEAD = np.geomspace(1e17, 1e20, 4000)
PARAMS, LOSS = optimum(AHEAD)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("reach") / "runs.csv"
    known_law(noise=0.01, seed=1, budgets=7, sizes=7).rows.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("target", ["loss", "return"])
def test_intervals_of_drawn_laws_hold_the_true_budget_and_size(target):
    k = 800  # 0.6 decades beyond the highest budget
    truth = {"loss": LOSS[k], "return": 150 * LOSS[k] ** DELTA}[target]
    hits = []
    for seed in range(6):
        row = reach(known_law(0.01, seed, budgets=7, sizes=7), target, truth)
        for name, value in (("flops", AHEAD[k]), ("params", PARAMS[k])):
            low, high = row[f"{name}_interval"]
            hits.append(low <= value <= high)
            assert row[name] == pytest.approx(value, rel=0.75)
    assert np.mean(hits) >= 0.85


def test_what_a_run_has_reached_is_that_run(path):
    rows = pd.read_csv(path)
    best = rows.sort_values("loss").groupby("flops").first().iloc[3]
    row = forecast(source="csv", path=path, loss=float(best["loss"]))
    assert row["measured"]
    assert row["params"] == pytest.approx(best["params"])
    assert row["frames"] == pytest.approx(best["samples"])


def test_what_is_not_reached_is_not_within(path, capsys):
    row = forecast(source="csv", path=path, loss=1e-3, within=1e19)
    assert row["flops"] is row["params"] is row["flops_interval"] is None
    assert "loss 0.001: not within 1e+19 FLOPs" in capsys.readouterr().out


def test_a_fit_and_its_table_reach_the_same(path, tmp_path):
    options = {"bootstraps": 0, "figures": False, "output": str(tmp_path)}
    fit(source="csv", path=path, **options)
    value = {"return": 150 * LOSS[400] ** DELTA}
    by_fit = forecast(fit=str(tmp_path), output=str(tmp_path / "out"), **value)
    assert by_fit == forecast(source="csv", path=path, **value)
    assert json.loads((tmp_path / "out" / "forecast.json").read_text())["flops"] == by_fit["flops"]
    again = forecast(source="csv", path=path, budget=by_fit["flops"])
    assert again["return"] == pytest.approx(value["return"], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1e19}, "give fit=FOLDER"),
        ({"source": "csv", "fit": "laws", "budget": 1e19}, "not both"),
        ({"source": "csv"}, "give one of budget"),
        ({"source": "csv", "budget": 1e19, "return": 3.0}, "give one of budget"),
        ({"source": "csv", "return": 1e4, "within": 1e10}, "within=1e.10: give FLOPs above"),
    ],
)
def test_bad_questions(path, options, message):
    with pytest.raises(InputError, match=message):
        forecast(**({"path": path} | options))
