"""Laws of repeated data are recovered, and say what passes and more games are worth."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.fitting.repeated import more_games, repeated, repeated_cells
from agent_scaling.scaling.laws.repeated import FORMS, fit_repeated
from agent_scaling.scaling.runs.table import tidy
from agent_scaling.studies.planning.by_laws import best_of_repeated
from tests.scaling.synthetic import ALPHA, BETA, A, B, E

OWN = {"effective": [15.0, 5.0], "penalty": [1e-3, 1.0, 0.7]}
"""Parameters of each form's own; the penalty's N/U is relative to :data:`RATIO`."""

RATIO = 3e4 / 1e7
AHEAD, UNIQUE = 3e14, 3e6


def loss_of(form, params, frames, unique):
    """The formulas, one cell at a time."""
    own = OWN[form]
    if form == "penalty":
        repeats = max(frames / unique - 1, 0)
        extra = own[0] * repeats ** own[1] * (params / unique / RATIO) ** own[2]
        return E + A / params**ALPHA + B / frames**BETA + extra
    seen = min(frames, unique)
    needed = (ALPHA * A / (BETA * B) * seen**BETA) ** (1 / ALPHA)
    worth = []
    for used, distinct, lasting in ((params, min(params, needed), own[1]), (frames, seen, own[0])):
        repeats = used / distinct - 1
        worth.append(distinct * (1 + lasting * (1 - np.exp(-repeats / lasting))))
    return E + A / worth[0] ** ALPHA + B / worth[1] ** BETA


def drawn(form, seed, noise=0.01):
    generator = np.random.default_rng(seed)
    cells = [
        {"flops": c, "params": n, "samples": c / 6 / n, "unique": u}
        for c in np.geomspace(1e12, 1e14, 5)
        for n in np.geomspace(3e3, 3e5, 5)
        for u in (1e8, 1e7, 3e6, 1e6)
    ]
    table = pd.DataFrame(cells)
    law = [loss_of(form, *row) for row in table[["params", "samples", "unique"]].to_numpy()]
    return table.assign(loss=law * np.exp(noise * generator.standard_normal(len(law))))


def rows_of(form, seed):
    return tidy(drawn(form, seed), "drawn").every


@pytest.mark.parametrize("form", FORMS)
def test_intervals_hold_the_best_size_its_passes_and_its_loss(form):
    sizes = np.geomspace(1e3, 1e7, 4000)
    values = [loss_of(form, n, AHEAD / 6 / n, UNIQUE) for n in sizes]
    best = sizes[int(np.argmin(values))]
    truth = {"params": best, "passes": AHEAD / 6 / best / UNIQUE, "loss": min(values)}
    hits = []
    for seed in range(8):
        law = fit_repeated(repeated_cells(rows_of(form, seed)), form)
        found = law.best(np.log(AHEAD), np.log(UNIQUE))
        hits += [found[name][1] <= value <= found[name][2] for name, value in truth.items()]
        assert found["params"][0] == pytest.approx(best, rel=0.25)
        assert law.noise == pytest.approx(0.01, rel=0.3)
    assert np.mean(hits) >= 0.85


@pytest.mark.parametrize("form", FORMS)
def test_the_form_that_drew_a_table_is_chosen(form):
    laws = repeated(rows_of(form, 0))
    assert laws["chosen"] == form
    own = laws["forms"][form]
    assert own["held_out_error"] < 0.1
    name, truth = {"effective": ("R_D", 15.0), "penalty": ("delta", 1.0)}[form]
    assert own[name] == pytest.approx(truth, rel=0.2)


def test_more_games_help_until_nothing_repeats():
    rows = more_games(rows_of("effective", 1), "effective", AHEAD, UNIQUE)
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    passes = [row["passes"] for row in rows]
    assert passes[:-1] == sorted(passes[:-1], reverse=True)
    assert rows[-1]["unique"] == np.inf
    size = ((ALPHA * A / (BETA * B)) * (AHEAD / 6) ** BETA) ** (1 / (ALPHA + BETA))
    low, high = rows[-1]["params_interval"]  # of fresh data: the law without repetition
    assert low <= size <= high


def test_fresh_data_and_few_cells_have_no_law_of_repetition():
    table = drawn("effective", 2)
    fresh = table[table["samples"] < table["unique"]]
    assert repeated(tidy(fresh, "fresh").every) is None
    assert repeated(tidy(table.drop(columns="unique"), "plain").every) is None
    assert repeated(tidy(table[:8], "few").every) is None


def test_a_fit_holds_the_law_and_its_sizes_are_of_the_freshest_cells(tmp_path, capsys):
    table = drawn("effective", 3)
    table.to_csv(tmp_path / "runs.csv", index=False)
    options = {"bootstraps": 0, "figures": False, "output": str(tmp_path / "out")}
    fit(source="csv", path=str(tmp_path / "runs.csv"), **options)
    assert "repeated data, effective: R_D" in capsys.readouterr().out
    fitted = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert fitted["repeated"]["chosen"] == "effective"
    (flag,) = [flag for flag in fitted["flags"] if flag.startswith("several settings")]
    assert "75 rows of fewer distinct frames" in flag
    best = table[table["unique"] == 1e8].groupby("flops")["loss"].min()
    points = pd.DataFrame(fitted["best_of_grid"]["loss"]["points"])
    assert points["loss"].to_numpy() == pytest.approx(best.to_numpy())
    row = best_of_repeated(str(tmp_path / "out"), AHEAD, UNIQUE)
    assert row["law"] == "effective"
    assert row["more_games"][-1]["unique"] is None
    assert "all new" in capsys.readouterr().out
    with pytest.raises(InputError, match="unique=0"):
        best_of_repeated(str(tmp_path / "out"), AHEAD, 0)
    table[table["unique"] == 1e8].to_csv(tmp_path / "runs.csv", index=False)
    fit(source="csv", path=str(tmp_path / "runs.csv"), **options)
    with pytest.raises(InputError, match="no law of repeated data"):
        best_of_repeated(str(tmp_path / "out"), AHEAD, UNIQUE)
