"""Plans by laws of repeated data and of settings have the laws' sizes, rates and batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.fitting.hyper import surface
from agent_scaling.scaling.fitting.repeated import more_games
from agent_scaling.scaling.runs.table import tidy
from agent_scaling.studies.plan_file import Plan, Store, load
from agent_scaling.studies.study import fit_across
from tests.scaling import test_hyper, test_repeated
from tests.studies.plans import BUDGETS, SIZES, make_plan


def fit_of(table, folder: Path) -> str:
    folder.mkdir()
    table.to_csv(folder / "runs.csv", index=False)
    options = {"bootstraps": 0, "figures": False, "output": str(folder)}
    fit(source="csv", path=str(folder / "runs.csv"), **options)
    return str(folder)


def test_each_run_has_the_rate_and_the_batch_of_the_law(tiny_shards: Path, tmp_path: Path, capsys):
    table = test_hyper.drawn(0)
    where, law = fit_of(table, tmp_path / "fit"), surface(tidy(table, "drawn").every)
    made = make_plan(tiny_shards, tmp_path / "plan", hyper=where, runs="cells")
    assert len(made.runs) == len(SIZES) * len(BUDGETS)
    shown = capsys.readouterr().out
    for run in made.runs:
        best = law.best(run.params, run.frames(run.budgets[-1]))
        text = (tmp_path / "plan" / "experiment" / f"{run.name}.yaml").read_text()
        written = yaml.safe_load(text)
        assert written["optimizer"]["lr"] == pytest.approx(best["lr"][0], rel=0.01)
        lanes = written["data"]["lanes"]  # in place of the plan's own 2
        assert lanes == max(1, round(best["batch"][0] / 16))
        assert run.step_frames == 16 * lanes
        said = f"optimizer.lr={written['optimizer']['lr']:g}, data.lanes={lanes}"
        assert f"# by the law of hyper-parameters: {said}" in text
        assert f"{run.name}: {said}" in shown
    assert load(tmp_path / "plan") == made
    low = {"low": {"optimizer.lr": 1e-3}}
    with pytest.raises(InputError, match=r"variants\.low\.optimizer\.lr: hyper= sets it"):
        make_plan(tiny_shards, tmp_path / "other", hyper=where, variants=low)


def test_the_best_run_on_the_games_there_are(tiny_shards: Path, tmp_path: Path, capsys):
    table = test_repeated.drawn("effective", 1)
    where, budget = fit_of(table, tmp_path / "fit"), 3e14
    best = {"fit": where, "budget": budget, "budgets": None, "sizes": None}
    made = make_plan(tiny_shards, tmp_path / "plan", **best, unique=1e8)
    rows = more_games(tidy(table, "drawn").every, "effective", budget, 1e8)
    assert made.forecast["passes"] == pytest.approx(rows[0]["passes"])
    assert made.runs[0].size == pytest.approx(rows[0]["params"], rel=1e-3)
    assert "all new" in capsys.readouterr().out
    with pytest.raises(InputError, match="no law of lr or batch"):
        make_plan(tiny_shards, tmp_path / "other", hyper=where)
    with pytest.raises(InputError, match="needs fit= and budget="):
        make_plan(tiny_shards, tmp_path / "other", unique=1e8)


def test_variants_of_games_alone_have_laws_in_common(tmp_path: Path):
    cells = test_repeated.drawn("penalty", 0).assign(study="x", variant="y", lr=1e-3, batch=256.0)
    variants = {"all": {}, "quarter": {"data.fraction": 0.25}}
    shared = {"name": "x", "convention": "model", "train": {}, "data": "", "runs": ()}
    made = Plan(**shared, variants=variants, store=Store("", "", None))
    fit_across(made, cells, tmp_path)
    fitted = json.loads((tmp_path / "fit" / "across" / "fit.json").read_text())
    assert fitted["repeated"]["chosen"] == "penalty"
    variants["wide"] = {"policy.encoder.width": 8}
    fit_across(made, cells, tmp_path / "other")
    assert not (tmp_path / "other").exists()
