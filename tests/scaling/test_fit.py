"""The verb: small and odd tables, MLflow as the source, files that are whole."""

from __future__ import annotations

import html
import json

import numpy as np
import pandas as pd
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.forecast import forecast
from tests.scaling.synthetic import known_law


def write(tmp_path, columns=None, budgets=5):
    rows = known_law(noise=0.02, seed=4, budgets=budgets, sizes=5).rows
    table = rows.rename(columns={"loss": "eval_loss", "return": "return_mean"})
    path = tmp_path / "runs.csv"
    table[columns or ["flops", "params", "samples", "eval_loss", "return_mean"]].to_csv(path)
    return str(path)


def run(tmp_path, path, **options):
    output = tmp_path / "out"
    fit(source="csv", path=path, output=str(output), **({"bootstraps": 20} | options))
    return json.loads((output / "fit.json").read_text())


def test_everything_is_written(tmp_path):
    fitted = run(tmp_path, write(tmp_path), forecast=[1e18])
    assert {"budgets", "best_of_grid", "parabola", "saturating", "parametric"} <= set(fitted)
    row = fitted["forecast"][0]
    for name in ("params", "frames", "loss", "return"):
        low, high = row[f"{name}_interval"]
        assert low < row[name] < high
    assert fitted["chosen"]["loss"] in fitted["validation"]["loss"]
    assert fitted["bootstrap"]["resamples"] == 20
    pngs = {file.stem for file in (tmp_path / "out").glob("*.png")}
    assert pngs == {file.stem for file in (tmp_path / "out").glob("*.svg")}
    assert {"profiles_loss", "optimum_return", "params_loss", "return_from_loss"} <= pngs
    assert not list((tmp_path / "out").glob(".*"))
    low, high = fitted["bootstrap"]["parametric"]["N_opt"]["interval"]
    assert low <= fitted["parametric"]["N_opt"] <= high
    assert fitted["diagnostics"]["noise"] == {"loss": None, "return": None}
    leverage = [row["leverage"] for row in fitted["diagnostics"]["budgets"]["loss"]]
    assert sum(leverage) == pytest.approx(2)  # as many as a line has coefficients


@pytest.mark.parametrize("column", ["eval_loss", "return_mean"])
def test_one_metric_is_enough(tmp_path, column):
    fitted = run(tmp_path, write(tmp_path, ["flops", "params", "samples", column]))
    target = "loss" if column == "eval_loss" else "return"
    assert list(fitted["best_of_grid"]) == [target]
    assert fitted["chosen"][target]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forecast": []}, r"forecast=\[\]: budgets are FLOPs"),
        ({"forecast": float("inf")}, r"forecast=\[inf\]: budgets are FLOPs"),
        ({"forecast": ["x"]}, "forecast="),
        ({"bootstraps": -1}, "bootstraps=-1: must be at least 0"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, write(tmp_path), **{"bootstraps": 0, "figures": False} | options)


def test_a_table_at_a_url_is_to_be_downloaded(tmp_path):
    with pytest.raises(InputError, match=r"path=https://h/runs\.csv: tables are read from files"):
        run(tmp_path, "https://h/runs.csv")


def test_without_samples_there_is_no_d_opt(tmp_path):
    fitted = run(tmp_path, write(tmp_path, ["flops", "params", "eval_loss"]))
    assert fitted["best_of_grid"]["loss"]["D_opt"] is None
    assert any("no samples anywhere" in flag for flag in fitted["flags"])


@pytest.mark.parametrize("forecast", [[], [np.inf], [0.0]])
def test_a_forecast_at_no_budget_is_one_line(tmp_path, forecast):
    with pytest.raises(InputError, match="budgets are FLOPs above 0"):
        run(tmp_path, write(tmp_path), forecast=forecast)


def test_three_budgets_give_exponents_but_no_forecast(tmp_path):
    fitted = run(tmp_path, write(tmp_path, budgets=3), figures=False)
    assert fitted["best_of_grid"]["loss"]["N_opt"]["exponent"] > 0
    assert "loss" not in fitted["forecast"][0]
    assert any(flag.startswith("no forecast of loss") for flag in fitted["flags"])
    with pytest.raises(InputError, match="2 budgets"):
        run(tmp_path, write(tmp_path, budgets=2))


def test_one_size_gives_laws_of_its_own(tmp_path):
    path = write(tmp_path)
    rows = pd.read_csv(path)
    rows[rows["params"] == rows["params"].min()].to_csv(path, index=False)
    fitted = run(tmp_path, path)
    assert fitted["best_of_grid"]["loss"]["optimum"]["exponent"] < 0
    assert fitted["parabola"]["loss"]["N_opt"] is None
    assert any("no parabola" in flag for flag in fitted["flags"])


FAULTS = {
    "missing metric": "2e+14 FLOPs, 1000 parameters (run 1000/) has no return",
    "NaN loss": "1e+14 FLOPs, 3000 parameters (run 3000/) has no loss",
    "failed run": "1e+15 FLOPs, 10000 parameters (run 10000/) is FAILED",
    "duplicate cell": "1e+15 FLOPs, 3000 parameters has 2 values of loss; averaged",
    "few points": "5e+14 FLOPs has 2 sizes with loss; no parabola",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """(flags, report) of a CSV with each fault once."""
    folder = tmp_path_factory.mktemp("faulty")
    rows = [
        {"flops": c, "params": n, "samples": c / 6 / n, "eval_loss": loss, "return_mean": 9 / loss}
        for k, c in enumerate((1e14, 2e14, 5e14, 1e15, 2e15))
        for n in (1e3, 3e3, 1e4, 3e4)
        for loss in [(1 + 0.1 * np.log(n / 5e3) ** 2) * 0.8**k]
    ]
    table = pd.DataFrame(rows).assign(status="FINISHED")
    at = {(row["flops"], row["params"]): number for number, row in enumerate(rows)}
    table.loc[at[2e14, 1e3], "return_mean"] = np.nan
    table.loc[at[1e14, 3e3], "eval_loss"] = np.nan
    table.loc[at[1e15, 1e4], "status"] = "FAILED"
    table.loc[len(table)] = table.loc[at[1e15, 3e3]]
    table = table.drop([at[5e14, 1e3], at[5e14, 3e4]])
    table.to_csv(folder / "faulty.csv", index=False)
    fitted = run(folder, str(folder / "faulty.csv"), bootstraps=0)
    return fitted["flags"], (folder / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_is_named_in_the_flags_and_in_the_report(faulty, kind):
    flags, page = faulty
    (found, *more) = [flag for flag in flags if flag.startswith(f"{kind}: {FAULTS[kind]}")]
    assert not more
    shown = page[page.index('<section id="flags">') : page.index('<section id="data">')]
    assert f"<summary>{kind} (" in shown
    assert html.escape(found.removeprefix(f"{kind}: "), quote=False) in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "tape"}, "use csv or mlflow"),
        ({"source": "csv"}, "needs path=FILE"),
        ({"source": "mlflow"}, "needs study=NAME"),
        ({"source": "csv", "path": "x.csv", "budgets": [1e15, 1e14]}, "give .lowest,highest."),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        fit(output=str(tmp_path), **options)


def test_the_table_needs_no_index(tmp_path):
    path = write(tmp_path)
    pd.read_csv(path).iloc[:, 1:].sample(frac=1, random_state=0).to_csv(path, index=False)
    shuffled = run(tmp_path, path, bootstraps=0, figures=False)
    plain = run(tmp_path, write(tmp_path), bootstraps=0, figures=False)
    assert shuffled["forecast"] == plain["forecast"]


def test_bests_of_one_size_say_nothing_of_an_exponent(tmp_path):
    """By construction N ∝ C^0 and D ∝ C^1, without any spread: no interval, and a flag."""
    rows = [
        {"flops": c, "params": n, "samples": c / 6 / n, "loss": (1 + 0.1 * abs(i - 1)) * loss}
        for c, loss in ((1e14, 1.5), (2e14, 1.3), (5e14, 1.2), (1e15, 1.0))
        for i, n in enumerate((1e3, 3e3, 1e4))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    path = str(tmp_path / "runs.csv")
    fitted = run(tmp_path, path, forecast=[1e16], bootstraps=20)
    law = fitted["best_of_grid"]["loss"]
    assert law["N_opt"]["exponent"] is law["D_opt"]["exponent"] is None
    assert law["N_opt"]["interval"] is law["D_opt"]["interval"] is None
    assert law["N_opt"]["reason"] == "every best is of 3,000 parameters"
    assert law["optimum"]["interval"] is not None
    assert fitted["forecast"][0]["params_interval"] == [0.0, None]
    kinds = [flag.partition(": ")[0] for flag in fitted["flags"]]
    assert kinds.count("one size") == 2  # with and without edges
    assert "no bootstrap interval" in kinds
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "none <small>one size</small>" in page
    assert "<b>no exponent</b>" in page
    row = forecast(fit=str(tmp_path / "out"), budget=1e16)
    assert row["params_interval"] == [0.0, np.inf]
    frame = fit_laws(path).exponents.set_index("quantity")
    assert frame.loc[["N_opt", "D_opt"], "low"].isna().all()
