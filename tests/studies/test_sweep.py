"""Sweeps: what is finished, what goes on after a kill, and how a failure is told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import psutil
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from mlflow import MlflowClient

from agent_scaling.config.beside import conf
from agent_scaling.config.call import call_verb
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.locks import is_held
from agent_scaling.studies.display.cells import measured_cells
from agent_scaling.studies.mlflow_parent import close_parent, describe, log_results, open_parent
from agent_scaling.studies.plan_file import Plan, Run
from agent_scaling.studies.run_cell import Progress, last_line, progress
from agent_scaling.studies.sweep import sweep_all
from agent_scaling.tracking.milestones import milestones
from tests.helpers.stores import new_store
from tests.studies.plans import BUDGETS, make_plan

URL = "http://127.0.0.1:9"
TWO = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def start(program: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """The sweep of a plan, in a process that can be killed; it says what it says to a file."""
    command = [program, "sweep", f"plan={folder}", *more]
    new_store(folder.parent / "mlflow.db")
    with (folder.parent / "said").open("w") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, cwd=folder.parent)


def finish(process: subprocess.Popen[bytes], root: Path) -> tuple[int, str]:
    code = process.wait(timeout=500)
    return code, (root / "said").read_text()


def until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait for a condition that holds before ``process`` ends."""
    while not condition():
        assert process.poll() is None
        time.sleep(0.1)


def trained_in(folder: Path) -> list[psutil.Process]:
    """The runs of a plan that are trained now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if {"train", str(folder)} <= set(process.cmdline()):
                found.append(process)
    assert found
    return found


def state(run: Run, folder: Path) -> str:
    return progress(run, folder).state


def test_a_stopped_and_a_killed_sweep_go_on(
    tiny_shards: Path, tmp_path: Path, forked: Path
) -> None:
    """SIGTERM, then SIGKILL, then to the end: each run is one MLflow run with each milestone once,
    the run that fails is named, and the others are finished."""
    folder = tmp_path / "plan"
    variants: dict[str, Any] = {"good": {}, "bad": {"optimizer.lr": -1.0}}
    made = make_plan(tiny_shards, folder, variants=variants, budgets=[1e9, 7e9], sizes=[5e3])
    good, bad = made.runs
    output = good.output(folder)

    process = start(forked, folder, *TWO)
    until(lambda: milestones(output), process)
    for run in trained_in(folder):
        with contextlib.suppress(psutil.NoSuchProcess):  # the bad one may have ended
            run.send_signal(signal.SIGUSR2)  # SLURM's to all of a job; the launcher's to heed
    process.send_signal(signal.SIGTERM)
    code, said = finish(process, tmp_path)
    assert code == 143, said
    assert "stopping: the runs save their checkpoints" in said
    assert "stopped by SIGTERM" in (output / "train.log").read_text()
    assert state(good, folder) == "stopped"
    tracked = (output / "mlflow_run_id").read_text()

    process = start(forked, folder, *TWO)
    until(lambda: is_held(output), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while is_held(output):  # the run saves, and ends
        time.sleep(0.1)

    code, said = finish(start(forked, folder, *TWO), tmp_path)
    assert code == 1
    assert state(good, folder) == "finished"
    (line,) = [s for s in said.splitlines() if s.startswith(f"failed  {bad.name}: ")]
    assert "optimizer.lr=-1" in line
    assert str(bad.output(folder) / "train.log") in line
    assert (output / "mlflow_run_id").read_text() == tracked
    assert [row["milestone"] for row in milestones(output)] == list(good.budgets)
    one_parent(made, tmp_path, folder)


def one_parent(made: Plan, root: Path, folder: Path) -> None:
    """The study's own run, and each training run once as its child, under its tags."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "nethack"]
    runs = client.search_runs([experiment.experiment_id])
    parent = (folder / "mlflow_run_id").read_text()
    children = [run for run in runs if run.info.run_id != parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent}
    cells = [run.data.tags["cell"] for run in children]
    assert set(cells) >= {run.name for run in made.runs if run.variant == "good"}
    assert len(cells) == len(set(cells))
    (study,) = [run for run in runs if run.info.run_id == parent]
    assert (study.data.tags["study"], study.info.status) == (made.name, "FAILED")


def test_another_launcher(tiny_shards: Path, tmp_path: Path, forked: Path) -> None:
    """The default one is in tests/studies/test_study.py."""
    folder = tmp_path / "plan"
    made = make_plan(tiny_shards, folder, sizes=[2e4])
    code, said = finish(start(forked, folder, "hydra/launcher=submitit_local"), tmp_path)
    assert code == 0, said
    assert [state(run, folder) for run in made.runs] == ["finished"]
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*")}
    code, said = finish(start(forked, folder), tmp_path)
    assert code == 0
    assert "1 of 1 runs finished" in said
    assert {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*")} == before


def test_the_first_run_waits_for_no_other_to_be_composed(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plan"
    made = make_plan(tiny_shards, folder, sizes=[5e3, 1e4, 2e4])
    new_store(tmp_path / "mlflow.db")
    done: list[str] = []
    load: Callable[..., Any] = ConfigLoaderImpl.load_sweep_config

    def composing(self: ConfigLoaderImpl, *given: Any, **named: Any) -> Any:
        done.append("composed")
        return load(self, *given, **named)

    def trained(run: Run, *_: object) -> str:
        done.append(run.name)
        return "to do"

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", composing)
    monkeypatch.setattr("agent_scaling.studies.sweep.train_cell", trained)
    monkeypatch.setattr("sys.argv", ["agent-scaling", f"plan={folder}"])
    with pytest.raises(SystemExit, match="1"):
        hydra.main(config_path=str(conf()), config_name="sweep", version_base=None)(call_verb)()
    assert done == [word for run in made.runs for word in ("composed", run.name)]


def written(run: Run, folder: Path, budgets: tuple[float, ...], checkpoint: bool) -> None:
    """A run's record of milestones, as a run writes it."""
    output = run.output(folder)
    (output / "checkpoints").mkdir(parents=True, exist_ok=True)
    rows = [
        {"milestone": b, "frames": 64, "checkpoint": f"checkpoints/flops_{b:.4g}.ckpt"}
        for b in budgets
    ]
    (output / "milestones.json").write_text(json.dumps(rows))
    if checkpoint:
        for row in rows:
            (output / str(row["checkpoint"])).touch()


def test_finished_is_what_the_record_says(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    run = make_plan(tiny_shards, folder, sizes=[2e4]).runs[0]
    assert state(run, folder) == "to do"
    written(run, folder, tuple(BUDGETS[:1]), True)
    assert progress(run, folder) == Progress("stopped", BUDGETS[0])
    written(run, folder, tuple(BUDGETS), False)
    (run.output(folder) / f"checkpoints/flops_{BUDGETS[1]:.4g}.ckpt").unlink(missing_ok=True)
    assert state(run, folder) == "stopped"  # cut off between the record and the checkpoint
    written(run, folder, tuple(BUDGETS), True)
    assert state(run, folder) == "finished"
    (run.output(folder) / "milestones.json").write_text('[{"milestone": 1e9')
    assert state(run, folder) == "stopped"


def test_branches_are_cells_of_their_run(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    made = make_plan(tiny_shards, folder, train={"schedule": "cooldown"}, sizes=[2e4])
    (run,) = made.runs
    branch = replace(run, name=f"{run.name}/branches/1e9")
    written(run, folder, tuple(BUDGETS[1:]), True)
    assert progress(run, folder) == Progress("stopped", BUDGETS[1])
    written(branch, folder, tuple(BUDGETS[:1]), False)
    assert state(run, folder) == "stopped"  # the branch was cut off before its checkpoint
    written(branch, folder, tuple(BUDGETS[:1]), True)
    assert progress(run, folder) == Progress("finished", BUDGETS[1])
    for name, owner in (("trunk", run), ("branch", branch)):
        (owner.output(folder) / "mlflow_run_id").write_text(name)
    cells = measured_cells(made, folder)
    assert list(cells["flops"]) == BUDGETS
    assert list(cells["mlflow_run_id"]) == ["branch", "trunk"]
    assert set(cells["run"]) == {run.name}


def test_a_run_that_another_process_trains_is_left_alone(
    tiny_shards: Path, tmp_path: Path, forked: Path
) -> None:
    folder = tmp_path / "plan"
    run = make_plan(tiny_shards, folder, sizes=[2e4]).runs[0]
    run.output(folder).mkdir(parents=True)
    lock = os.open(run.output(folder) / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        code, said = finish(start(forked, folder), tmp_path)
    finally:
        os.close(lock)
    assert code == 1
    assert f"running  {run.name}: another process trains it" in said
    assert not is_held(run.output(folder))


def test_no_plan_is_one_line(tmp_path: Path, forked: Path) -> None:
    code, said = finish(start(forked, tmp_path / "none"), tmp_path)
    assert code == 2
    assert "make it with agent-scaling plan" in said


def test_a_store_that_is_away_as_a_sweep_begins_is_one_line(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = make_plan(tiny_shards, tmp_path / "plan")
    made = replace(made, store=replace(made.store, tracking_uri=URL))
    with pytest.raises(InputError, match=f"tracking_uri={URL}: MLflow cannot use this store"):
        sweep_all(made, tmp_path / "plan", None)
    assert not (tmp_path / "plan" / "mlflow_run_id").exists()
    for work in (
        lambda: log_results(made, tmp_path / "plan", {"a": 1.0}, []),
        lambda: describe(made, tmp_path / "plan", "said"),
    ):
        (tmp_path / "plan" / "mlflow_run_id").write_text("0" * 32)
        with pytest.raises(InputError, match="cannot use this store"):
            work()


def test_a_store_that_is_away_as_a_sweep_ends_is_told_and_its_run_closed_later(
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    new_store(tmp_path / "mlflow.db")
    folder = tmp_path / "plan"
    made = make_plan(tiny_shards, folder)
    run_id = open_parent(made, folder)
    away = replace(made, store=replace(made.store, tracking_uri=URL))
    capsys.readouterr()
    close_parent(away, folder, "FAILED")
    said = "".join(capsys.readouterr())
    assert said.count("\n") == 1
    assert "stays open until sweep is run again" in said
    for run in made.runs:
        written(run, folder, tuple(BUDGETS), True)
    sweep_all(made, folder, None)
    client = MlflowClient(made.store.tracking_uri)
    assert client.get_run(run_id).info.status == "FAILED"
    assert len(client.search_runs([client.get_run(run_id).info.experiment_id])) == 1


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("fine\nerror: no shards\nTo see more, set X\n\n")
    assert last_line(log) == "error: no shards"
    log.write_text("Traceback\nValueError: bad\nhydra said something\n")
    assert last_line(log) == "ValueError: bad"
    log.write_text("Killed\n")
    assert last_line(log) == "Killed"
    assert last_line(tmp_path / "none") == ""
