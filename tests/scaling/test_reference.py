"""What is known of the published experiments comes out of one call per game."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.laws.profiles import best_of_grid
from agent_scaling.scaling.runs.table import read_csv, tidy

GAMES = ("Breakout", "BattleZone", "BankHeist", "Phoenix")


@pytest.fixture(scope="module")
def paper(reference):
    return reference / "reference" / "paper"


@pytest.fixture(scope="module")
def expected(paper):
    return json.loads((paper / "expected.json").read_text())


@pytest.fixture(scope="module")
def nethack(paper, tmp_path_factory):
    """(budgets, forecast) → what fit.json holds, each fitted once."""
    done = {}

    def fitted(budgets, forecast=None):
        key = (tuple(budgets), str(forecast))
        if key not in done:
            folder = tmp_path_factory.mktemp("fit")
            path = str(paper / "nethack_isoflop.csv")
            options = {"bootstraps": 0, "figures": False, "output": str(folder)}
            fit(source="csv", path=path, budgets=budgets, forecast=forecast, **options)
            done[key] = json.loads((folder / "fit.json").read_text())
        return done[key]

    return fitted


def check_exponents(law, want):
    for name in ("N_opt", "D_opt", "optimum"):
        assert law[name]["exponent"] == pytest.approx(want[name], abs=want["tol"])
        low, high = law[name]["interval"]
        assert low < law[name]["exponent"] < high


@pytest.mark.parametrize("form", ["best_of_grid", "parabola_5_nearest"])
def test_nethack_exponents(nethack, expected, form):
    for want in expected["nethack"][form]:
        law = nethack(want["budgets"])[form.removesuffix("_5_nearest")][want["target"]]
        check_exponents(law, want)
        if form == "parabola_5_nearest":
            check_exponents(law["symmetric"], want)


def test_nethack_saturating_loss(nethack, expected):
    for want in expected["nethack"]["saturating_loss"]:
        law = nethack(want["budgets"])["saturating"]["loss"]
        assert law["converged"]
        assert law["L_inf"] == pytest.approx(want["L_inf"], abs=want["tol"])
        assert law["gamma"] == pytest.approx(want["gamma"], abs=want["tol"])
        decay = np.exp(law["log_a"] - law["gamma"] * np.log(want["prediction_at"]))
        assert law["L_inf"] + decay == pytest.approx(want["loss"], abs=want["loss_tol"])


@pytest.mark.parametrize("game", GAMES)
def test_atari_exponents(paper, expected, tmp_path, game):
    want = next(w for w in expected["atari"]["best_of_grid_loss"] if w["game"] == game)
    path = str(paper / "atari_loss.csv")
    options = {"bootstraps": 0, "figures": False, "output": str(tmp_path)}
    fitted = fit(source="csv", path=path, game=game, budgets=want["budgets"], **options)
    check_exponents(fitted["best_of_grid"]["loss"], want)


def test_nethack_held_out_budgets(nethack, paper, expected):
    """Fitted on the lower budgets alone, the chosen forms predict the higher ones."""
    want = expected["nethack"]["holdout"]
    rows = nethack(want["fit_on"], want["predict"])["forecast"]
    cells = tidy(read_csv(str(paper / "nethack_isoflop.csv")), "the paper's table").cells
    for target, reach in (("loss", want["reach"]), ("return", 0.10)):
        best = best_of_grid(cells, target).set_index("flops")["value"]
        errors = [np.log(row[target] / best[row["flops"]]) for row in rows]
        size = np.abs(errors).mean() if target == "loss" else np.sqrt(np.mean(np.square(errors)))
        assert size <= reach
        for row in rows:
            low, high = row[f"{target}_interval"]
            assert low <= best[row["flops"]] <= high


def test_edges_are_flagged_and_shown_both_ways(nethack):
    fitted = nethack([1e14, 1e18])
    edges = [flag for flag in fitted["flags"] if flag.startswith("edge:") and "loss" in flag]
    assert [flag.split()[1] for flag in edges] == [
        "1e+14",
        "2e+14",
        "5e+14",
        "1e+15",
        "2e+15",
        "1e+18",
    ]
    inner = fitted["best_of_grid"]["loss"]["without_edges"]["N_opt"]["exponent"]
    assert inner != fitted["best_of_grid"]["loss"]["N_opt"]["exponent"]


def test_every_duplicate_cell_is_named(nethack):
    flags = nethack([1e15, 1e18])["flags"]
    named = {flag for flag in flags if flag.startswith("duplicate cell:") and "loss" in flag}
    assert len(named) == 50  # five sizes run twice, ten budgets


def test_two_files_complete_each_other(paper):
    paths = [str(paper / "atari_loss.csv"), str(paper / "atari_return.csv")]
    runs = tidy(read_csv(paths, "BattleZone"), "the Atari tables")
    both = runs.cells[(runs.cells["loss"] > 0) & (runs.cells["return"] > 0)]
    assert len(both) > 120
    assert not any(flag.startswith("NaN loss") for flag in runs.flags)
    assert any("2234645 parameters" in f and "no samples" in f for f in runs.flags)
