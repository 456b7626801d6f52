"""The verb: trials that stop, go on and resume, under one MLflow run."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from agent_scaling.config.call import call_verb
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.plan_file import load
from agent_scaling.studies.tuning.result import MEASURES
from agent_scaling.studies.tuning.search import Search
from agent_scaling.studies.tuning.space import space_of
from agent_scaling.studies.tuning.tune import Tuning, bench_of
from agent_scaling.tracking.milestones import milestones
from tests.helpers.runs import composed
from tests.helpers.stores import new_store

RUNGS = [5e8, 1e9]
WHOLE = 1e9 + 0.2 * 5e8
"""FLOPs of a trial that is trained to its end: its run, and the decay at its first rung."""
TOTAL = 3.1 * WHOLE


def words(shards: Path, root: Path, *more: str) -> list[str]:
    return [
        "name=tiny", "train.experiment=nethack_bc_paper", f"train.data.shards={shards}",
        "+train.data.lanes=2", "+train.data.val_lanes=4", "+train.data.val_frames=64",
        "+train.callbacks.rollouts=null", "+train.callbacks.progress=null",
        "+train.callbacks.model=null", "+train.callbacks.reference_players=null",
        f"+train.logger.tracking_uri=sqlite:///{root}/mlflow.db",
        f"+train.logger.artifact_location={root}/artifacts",
        "search={optimizer.lr:{lowest:1e-4,highest:3e-2}}", "size=3e4", "budget=1e9", "rungs=2",
        "eta=2", f"total={TOTAL}", f"output={root}/out", *more,
    ]  # fmt: skip


def start(program: Path, root: Path, *given: str) -> subprocess.Popen[bytes]:
    with (root / "said").open("w") as said:
        return subprocess.Popen([program, *given], stdout=said, stderr=said, cwd=root)


def finish(process: subprocess.Popen[bytes], root: Path) -> tuple[int, str]:
    code = process.wait(timeout=500)
    return code, (root / "said").read_text()


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "out" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_stops_goes_on_and_ends(tiny_shards: Path, tmp_path: Path, forked: Path) -> None:
    out = tmp_path / "out"
    given = words(tiny_shards, tmp_path)
    new_store(tmp_path / "mlflow.db")

    process = start(forked, tmp_path, "tune", *given)
    while not milestones(out / "runs" / "t000"):
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.05)
    (out / "STOP").touch()  # as SIGTERM does
    code, said = finish(process, tmp_path)
    assert code == 143, said
    assert "to go on: agent-scaling tune name=tiny" in said

    code, said = finish(start(forked, tmp_path, "tune", *given), tmp_path)
    assert code == 0, said
    made, found = load(out), rows(tmp_path)
    assert sum(run.trained for run in made.runs) <= TOTAL
    assert len(found) == len(made.runs) >= 3
    assert found[0]["1e9"]
    for row in found:
        reached = [r["milestone"] for r in milestones(out / "runs" / row["trial"])]
        assert reached == (RUNGS if row["state"] == "finished" else RUNGS[:1])
    ends = [float(row["1e9"]) for row in found if row["1e9"]]
    assert ends == sorted(ends)
    own = next(row for row in found if row["trial"] == "t000")
    assert own["state"] == "finished"  # the first is always among the best
    one_parent(tmp_path, {run.name for run in made.runs})
    the_best_trains(tmp_path, forked, found[0], said)

    before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*")}
    code, said = finish(start(forked, tmp_path, "tune", *given), tmp_path)
    assert code == 0, said
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*")} == before
    assert rows(tmp_path) == found
    code, said = finish(start(forked, tmp_path, "tune", *given, "seed=5"), tmp_path)
    assert code == 2
    assert "its trials have other settings (seed)" in said


def one_parent(root: Path, names: set[str]) -> None:
    """The search's own run, and each trial once as its child, under its tags."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in runs if run.data.tags.get("kind") == "study"]
    assert (parent.data.tags["study"], parent.info.status) == ("tiny", "FINISHED")
    assert parent.data.metrics["trials"] == len(names)
    assert "experiment=best" in parent.data.tags["mlflow.note.content"]
    children = [run for run in runs if run.data.tags.get("study") == "tiny" and run is not parent]
    trials = [run for run in children if "branch_of" not in run.data.tags]
    assert {run.data.tags["cell"] for run in trials} == names
    assert len(trials) == len(names)
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in trials)


def the_best_trains(root: Path, program: Path, best: dict[str, str], said: str) -> None:
    """The experiment that was found, by the command that was printed."""
    assert f"agent-scaling train --config-dir {root}/out experiment=best" in said
    again = ["--config-dir", str(root / "out"), "experiment=best", "flops_budget=2e8"]
    code, told = finish(start(program, root, "train", *again, f"output={root}/again"), root)
    assert code == 0, told
    cfg = yaml.safe_load((root / "again" / "config.yaml").read_text())
    assert cfg["optimizer"]["lr"] == float(best["optimizer.lr"])
    assert cfg["policy"]["params"] == 30_000


def test_what_has_ended_is_not_trained_again(tiny_shards: Path, tmp_path: Path) -> None:
    shards = {"shards": str(tiny_shards), "lanes": 2, "val_lanes": 4, "val_frames": 64}
    recipe = {"experiment": "nethack_bc_paper", "schedule": "cooldown", "data": shards}
    bench = bench_of("tiny", recipe, 2e4, RUNGS, 0, "model")
    keys = space_of({"optimizer.lr": {"lowest": 1e-4, "highest": 3e-2}})
    search = Search(
        tmp_path / "journal", keys, rungs=2, eta=2, sampler="random", pruner="none",
        maximise=False, seed=0,
    )  # fmt: skip
    search.end(search.ask(), "diverged")
    search.end(search.ask(), "failed")
    higher = search.tell(search.ask(), 1.0)
    search.end(higher, "diverged")  # between its rungs
    waiting = search.tell(search.ask(), 0.9)
    tuning = Tuning(bench, search, MEASURES["loss"], tmp_path, WHOLE, 9 * WHOLE, 1)
    trials, runs = tuning.laid_out()
    assert [trial.number for trial in trials] == [2, 3]
    assert [list(run.budgets) for run in runs] == [RUNGS[:1], RUNGS]
    assert tuning.going() == [waiting]
    # One diverged before its first rung and one after it; one may reach its end; failures are free.
    assert tuning.spent() == pytest.approx(RUNGS[0] + 2 * WHOLE)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["train.schedule=linear"], r"train\.schedule: its rate falls .* train\.schedule=cooldown"),
        (["search={optimizer.rate:{lowest:1,highest:2}}"], r"train\.optimizer\.rate"),
        (["search={seed:[1,2]}"], r"train\.seed is for the plan to set"),
        ([f"total={0.9 * WHOLE}"], r"total=9\.9e\+08: one trial to its end costs 1\.1e\+09 FLOPs"),
        (["eta=1"], "eta: must be at least 2"),
        (["sampler=genetic"], "sampler=genetic"),
        (["name=a/b"], "name='a/b': letters"),
        (["budget=1e7"], "end in the same step"),
    ],
)
def test_what_cannot_be_searched_is_one_line_before_anything_is_written(
    tiny_shards: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    given = words(tiny_shards, tmp_path, *more)
    if any(word.startswith("search=") for word in more):
        given = [w for w in given if not w.startswith("search={optimizer.lr")]
    with pytest.raises(InputError, match=said):
        call_verb(composed("tune", given))
    assert not (tmp_path / "out").exists()


def test_a_round_in_which_all_runs_fail_ends_the_search(
    tiny_shards: Path, tmp_path: Path, forked: Path
) -> None:
    new_store(tmp_path / "mlflow.db")
    given = [w for w in words(tiny_shards, tmp_path) if not w.startswith("search=")]
    given += ["+train.optimizer.lr=-1", "search={data.lanes:[2,4]}"]
    code, said = finish(start(forked, tmp_path, "tune", *given), tmp_path)
    assert code == 1, said
    assert "failed  t000: " in said
    assert "to go on: agent-scaling tune" in said
    assert not (tmp_path / "out" / "trials.csv").exists()
    settings = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert settings["search"] == {"data.lanes": [2, 4]}
