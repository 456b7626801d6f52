"""A study from plan to check, and every study's config."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from agent_scaling.config.call import call_verb
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.plan_file import load
from tests.conftest import ROOT
from tests.docs.metrics import documented, unknown, unlogged
from tests.helpers.runs import composed
from tests.helpers.stores import new_store
from tests.studies.test_plan import as_train_composes

STUDIES = sorted(path.stem for path in (ROOT / "conf" / "study").glob("*.yaml"))


ATARI = ("breakout", "pong", "atari", "paper_atari")
"""Studies of Atari's games; the others are of NetHack's, or play."""
TINY = [
    "milestones=[]",
    "callbacks.rollouts=null",
    "callbacks.progress=null",
    "callbacks.model=null",
]
CLONES = [*TINY, "data.val_frames=64", "data.val_lanes=2", "data.workers=0"]
LONG = {"one_gpu", "paper_atari", "paper_nethack", "paper_nethack_rl"}
"""Studies for accelerators, of which no step is cheap."""


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_plans_and_its_first_run_trains(
    name: str, tiny_shards: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With one size, the study's own settings and variants, and two steps of its first run."""
    plays, shards = name.endswith("_rl"), tiny_shards
    if name in ATARI:
        shards = request.getfixturevalue("atari_shards")
    # Few widths have to be tried for 4e4 parameters.
    sizes = "{policy.encoder.width:[3]}" if "atari" in name else "[4e4]"
    overrides = [
        f"study={name}",
        *([] if plays else [f"train.data.shards={shards}"]),
        f"sizes={sizes}",
        f"output={tmp_path}/plan",
        f"+train.logger.tracking_uri={new_store(tmp_path / 'mlflow.db')}",
        f"+train.logger.artifact_location={tmp_path}/artifacts",
    ]
    call_verb(composed("plan", overrides))
    made = load(tmp_path / "plan")
    assert len(made.runs) == len(list((tmp_path / "plan" / "experiment").iterdir()))
    assert made.name == composed("plan", overrides).name
    assert len(made.studies) == max(1, len(made.variants))
    highest = {"minihack_rl": 1.0, "pong": 21.0}.get(name)
    assert made.returns.get("highest_return") == highest
    if name in LONG:
        return
    run = made.runs[0]
    budget = f"flops_budget={2 * run.step_frames * run.cost}"
    small = TINY if plays else CLONES
    call_verb(as_train_composes(tmp_path / "plan", run.name, budget, *small))
    (found,) = json.loads((run.output(tmp_path / "plan") / "milestones.json").read_text())
    assert found["frames"] >= 2 * run.step_frames
    assert plays or np.isfinite(found["val/nats"])


def test_a_grid_that_is_too_small_to_forecast_from(tiny_shards: Path, tmp_path: Path) -> None:
    words = ["study=demo", f"train.data.shards={tiny_shards}", f"output={tmp_path}/out"]
    with pytest.raises(InputError, match="3 budgets= and 2 sizes=: a forecast needs 4 and 3"):
        call_verb(composed("study", [*words, "budgets=[1e9,2e9,3e9]", "sizes=[1e4,2e4]"]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["seeds", "train", "epochs", "runs"])
def test_a_key_of_plan_without_a_value_is_one_line(key: str, tmp_path: Path) -> None:
    words = ["study=demo", "train.data.shards=none", f"output={tmp_path}/out", f"{key}=null"]
    with pytest.raises(InputError, match=f"{key}=null: input should be"):
        call_verb(composed("study", words))


def test_a_study_forecasts_trains_and_checks(
    forked: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    new_store(tmp_path / "mlflow.db")
    command = [
        str(forked),
        "study",
        "study=demo",
        f"train.data.shards={tiny_shards}",
        "train.data.lanes=4",
        "train.data.val_lanes=4",
        "train.data.val_frames=64",
        "train.callbacks.rollouts=null",
        "+train.callbacks.model=null",
        "+train.callbacks.baselines=null",
        "budgets=[4e6,8e6,1.6e7,3.2e7]",
        "sizes=[6e3,1e4,2e4]",
        "budget=6.4e7",
        "output=out",
        "hydra/launcher=basic",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    cells = pd.read_csv(out / "fit" / "cells.csv")
    assert len(cells) == 12
    fitted = json.loads((out / "fit" / "fit.json").read_text())
    assert fitted["budgets"] == [4e6, 3.2e7]
    assert not [flag for flag in fitted["flags"] if flag.startswith("failed run")]
    report = (out / "fit" / "report.html").read_text(encoding="utf-8")
    assert "agent-scaling study study=demo train.data.shards=" in report
    assert "<dd>CompactEncoder</dd>" in report  # of the runs' own records
    loss = fitted["best_of_grid"]["loss"]["points"]
    best = cells.groupby("flops")["eval_loss"].min().tolist()
    assert [point["value"] for point in loss] == pytest.approx(best)
    checked = json.loads((out / "check" / "forecast.json").read_text())
    planned = load(out / "forecast")
    assert checked["params"] == pytest.approx(planned.forecast["params"])
    assert checked["comparison"]["loss"]["measured"] > 0
    said = done.stdout.splitlines()
    minutes = ("running   ", "in all    ")  # so many lines as the machine takes minutes
    assert len([line for line in said if not line.startswith(minutes)]) <= 60
    told = [line for line in said if line.startswith("Verdict     The forecast of loss ")]
    assert told == [f"Verdict     {fitted['verdict']['Verdict'][0]}"]
    assert not [line for line in said if "HYDRA" in line or " INFO " in line]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    parent = client.get_run((out / "grid" / "mlflow_run_id").read_text())
    assert parent.data.metrics["forecast/loss"] == pytest.approx(checked["loss"])
    description = parent.data.tags["mlflow.note.content"]
    assert description.startswith(f"**Verdict**\n\n- {fitted['verdict']['Verdict'][0]}")
    assert "- go on: `agent-scaling sweep plan=" in description
    _found_under_its_name(client, parent.info.run_id, checked)
    runs = len(client.search_runs(["0", "1", "2"]))

    before = {path: path.stat().st_mtime_ns for path in (out / "fit").iterdir()}
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "fit").iterdir()} == before
    assert len(client.search_runs(["0", "1", "2"])) == runs
    assert len(client.get_metric_history(parent.info.run_id, "forecast/loss")) == 1


def _found_under_its_name(client: MlflowClient, parent: str, checked: dict[str, Any]) -> None:
    """One fit beside the study's own run, both with the report, which shows what was measured."""
    study = client.get_run(parent)
    (fitted,) = client.search_runs([study.info.experiment_id], "tags.kind = 'fit'")
    assert fitted.info.run_name == "fit demo-study"
    assert fitted.data.tags["study"] == study.data.tags["study"] == "demo-study"
    for run_id in (parent, fitted.info.run_id):
        report = Path(client.download_artifacts(run_id, "report.html")).read_text("utf-8")
        assert "<h1>fit demo-study</h1>" in report
        assert '"name":"measured (check): ' in report
        kept = json.loads(Path(client.download_artifacts(run_id, "fit.json")).read_text())
        assert kept["forecast"][0]["comparison"] == checked["comparison"]
    of_fits = documented("Fits and studies", computed="scaling/runs/fit_run.py")
    assert unknown(fitted.data.metrics, of_fits) == []
    of_studies = documented("Fits and studies", computed="studies/study.py")
    assert unknown(study.data.metrics, of_studies) == []
    # Where the best size is the grid's smallest, its frames have no upper end; where it is the
    # largest, its parameters have none.
    ends = {"forecast/frames_high", "forecast/params_high"}
    assert set(unlogged(of_studies, study.data.metrics)) <= ends
