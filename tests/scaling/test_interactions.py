"""Learning by playing: laws of return alone, against FLOPs and against interactions."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.fitting.interactions import against_frames
from agent_scaling.scaling.runs.table import tidy
from tests.helpers.stores import new_store


def played(seeds=3, noise=0.02):
    """R = 2 D^0.3 N^0.1 below a size's own bound, three seeds; C = 100 N^0.6 D."""
    generator, rows = np.random.default_rng(0), []
    for params in (1e4, 3e4, 1e5, 3e5):
        for flops in (1e10, 3e10, 1e11, 3e11, 1e12):
            frames = flops / 100 / params**0.6
            score = 1 / (1 / (2 * frames**0.3 * params**0.1) + 1 / params**0.5)
            for seed in range(seeds):
                row = {"flops": flops, "params": params, "samples": frames, "seed": seed}
                row["return_mean"] = score * np.exp(noise * generator.standard_normal())
                rows.append(row | {"return_se": 0.01 * score, "run": f"{params}/{seed}"})
    return pd.DataFrame(rows)


def test_a_study_without_a_loss_is_fitted_and_says_so(tmp_path, capsys):
    path = tmp_path / "played.csv"
    played().assign(status="FINISHED").to_csv(path, index=False)
    fit(source="csv", path=str(path), bootstraps=50, output=str(tmp_path / "fit"))
    fitted = json.loads((tmp_path / "fit" / "fit.json").read_text())
    assert "missing metric: no loss anywhere" in fitted["flags"]
    assert not [flag for flag in fitted["flags"] if flag.startswith(("duplicate", "missing seed"))]
    law = fitted["best_of_grid"]["return"]
    assert law["optimum"]["exponent"] > 0
    assert law["N_opt"]["reason"] == "every best is of 300,000 parameters"
    best = pd.DataFrame(law["points"])
    cells = pd.DataFrame(fitted["cells"]).merge(best[["flops", "params"]])
    assert list(cells["return"]) == pytest.approx(list(best["value"]))
    assert set(cells["runs"]) == {3}
    assert "bootstrap" in fitted
    assert (tmp_path / "fit" / "return_against_frames.png").exists()
    page = (tmp_path / "fit" / "report.html").read_text()
    assert "laws-return_against_frames" in page
    assert "nan" not in page.split("<script", 1)[0].lower()
    said = capsys.readouterr().out
    assert "best size of each budget: frames are interactions" in said
    assert "return against frames" in said
    law = fitted["intrinsic"]
    assert law["N_opt_interval"][0] < law["N_opt"] < law["N_opt_interval"][1]
    assert len(law["cells"]) == len(fitted["cells"])
    assert "intrinsic performance: alpha_N" in said
    assert "two_stage" not in said


def test_returns_of_recorded_games_are_not_against_interactions(tmp_path):
    path = tmp_path / "cloned.csv"
    frame = played(seeds=1)
    frame.assign(eval_loss=1 / frame["return_mean"]).to_csv(path, index=False)
    options = {"bootstraps": 0, "figures": False, "output": str(tmp_path / "fit")}
    assert fit(source="csv", path=str(path), **options)["return_against_frames"] is None


def test_exponents_against_frames_are_those_of_the_law():
    frame = played(seeds=1, noise=0)
    frame["return_mean"] = 2 * frame["samples"] ** 0.3
    law = against_frames(tidy(frame, "test").cells)
    assert [size["exponent"] for size in law["sizes"]] == pytest.approx([0.3] * 4)
    assert law["best"]["exponent"] == pytest.approx(0.3)
    frames = law["best"]["points"]["frames"]
    most = frame.groupby("params")["samples"].max().nlargest(2).iloc[-1]
    assert frames.max() == pytest.approx(most)  # beyond it there is one size alone


def test_returns_without_a_logarithm(tmp_path):
    path = tmp_path / "lost.csv"
    played().assign(return_mean=0.0).to_csv(path, index=False)
    with pytest.raises(InputError, match="0 budgets have a loss above 0, 0 a return above 0"):
        fit(source="csv", path=str(path), output=str(tmp_path / "fit"))


def test_a_study_in_mlflow_with_a_seed_that_failed(tmp_path):
    """Of six runs one reached its first budget alone: what it measured is used, and it is named."""
    uri = new_store(tmp_path / "store.db")
    client = MlflowClient(uri)
    experiment = client.create_experiment("games", artifact_location=str(tmp_path / "artifacts"))
    frame = played(seeds=2)
    for (params, seed), own in frame[frame["params"] < 3e5].groupby(["params", "seed"]):
        failed = (params, seed) == (3e4, 1)
        rows = own.head(1 if failed else None).rename(columns={"samples": "frames"})
        rows = rows.rename(columns={"flops": "milestone", "return_mean": "rollout/return_mean"})
        run_id = client.create_run(experiment, tags={"study": "rl"}).info.run_id
        client.log_param(run_id, "policy.num_params", round(params))
        client.log_param(run_id, "seed", seed)
        kept = rows[["milestone", "frames", "rollout/return_mean"]].to_dict("records")
        client.log_dict(run_id, kept, "milestones.json")
        client.set_terminated(run_id, "FAILED" if failed else "FINISHED")
    options = {"bootstraps": 0, "figures": False, "log": False, "output": str(tmp_path / "fit")}
    fitted = fit(source="mlflow", study="rl", tracking_uri=uri, **options)
    flags = [flag for flag in fitted["flags"] if flag.startswith(("failed", "missing", "dup"))]
    assert flags[0] == "missing metric: no loss anywhere"
    assert "1e+10 FLOPs, 30000 parameters" in flags[1]
    assert "is FAILED" in flags[1]
    assert [flag.partition(": ")[2] for flag in flags[2:]] == [
        f"{flops} FLOPs, 30000 parameters lacks seed 1"
        for flops in ("3e+10", "1e+11", "3e+11", "1e+12")
    ]
    assert fitted["cells"]["runs"].tolist().count(1) == 4
    assert fitted["forecast"][0]["return"] > 0
