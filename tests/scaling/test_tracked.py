"""Fits and forecasts of what MLflow holds, and the run that a fit becomes."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from agent_scaling.cli.main import main
from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit, read
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.report.replays import replays_of
from agent_scaling.scaling.runs.fit_file import agreed_store
from agent_scaling.scaling.runs.mlflow_runs import measured_at, read_mlflow
from agent_scaling.scaling.runs.settings import settings_of
from agent_scaling.studies.plan_file import Store
from agent_scaling.studies.planning.by_laws import best_of_repeated, settings_by
from agent_scaling.studies.planning.speed import of_finished
from tests.docs.metrics import documented, unknown, unlogged
from tests.helpers.stores import new_store
from tests.scaling.synthetic import known_law


def milestones(group):
    return [
        {
            "milestone": row["flops"],
            "flops": row["flops"] * 1.003,  # the step that crossed it ended later
            "frames": row["samples"],
            "val/nats": row["loss"],
            "rollout/return_mean": row["return"],
            "reference/recorded_return_mean": 9000.0,
        }
        for row in group.to_dict("records")
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """(uri, ids of the runs by size): a sweep of five sizes, its parent, and a run that failed."""
    folder = tmp_path_factory.mktemp("store")
    uri = new_store(folder / "store.db")
    client = MlflowClient(uri)
    experiment = client.create_experiment("nethack", artifact_location=str(folder / "artifacts"))
    parent = client.create_run(experiment, tags={"study": "mini"}, run_name="mini (study)").info
    tags = {"study": "mini", "mlflow.parentRunId": parent.run_id}
    ids = {}
    for params, group in known_law(0.02, 4, budgets=5, sizes=5).rows.groupby("params"):
        run_id = ids[params] = client.create_run(experiment, tags=tags).info.run_id
        client.log_param(run_id, "policy.num_params", round(float(params)))
        client.log_param(run_id, "data.train_frames", "1551447")
        client.set_tag(run_id, "git_commit", "0123456789abcdef")
        client.log_dict(run_id, milestones(group), "milestones.json")
        client.set_terminated(run_id)
    lost = client.create_run(experiment, tags=tags, run_name="lost").info.run_id
    client.set_terminated(lost, "FAILED")
    return uri, ids


def options(tmp_path, store, **more):
    shared = {"source": "mlflow", "tracking_uri": store[0], "bootstraps": 0, "log": False}
    return shared | {"figures": False, "output": str(tmp_path / "out")} | more


def test_a_study_gives_what_its_runs_measured(tmp_path, store):
    fitted = fit(**options(tmp_path, store, study="mini"))
    rows = known_law(0.02, 4, budgets=5, sizes=5).rows
    path = tmp_path / "runs.csv"
    rows.to_csv(path, index=False)
    csv = {"source": "csv", "path": str(path), "tracking_uri": None}
    again = fit(**options(tmp_path, store) | csv)
    found, want = (f["best_of_grid"]["loss"]["optimum"]["exponent"] for f in (fitted, again))
    assert found == pytest.approx(want)
    assert fitted["budgets"] == pytest.approx([rows["flops"].min(), rows["flops"].max()])
    assert sum("lost is FAILED" in flag for flag in fitted["flags"]) == 1
    assert not any("(study)" in flag for flag in fitted["flags"])
    assert fitted["expert_return"] == 9000
    assert "expert" in fitted["validation"]["return"] or not fitted["validation"]["return"]


def test_an_experiment_gives_the_same(tmp_path, store):
    by_study, by_experiment = (
        read_mlflow(*names, store[0]).table for names in (("mini", None), (None, "nethack"))
    )
    assert by_study.equals(by_experiment)
    with pytest.raises(InputError, match="use one of"):
        read_mlflow(None, "chess", store[0])
    with pytest.raises(InputError, match="study=other: no run"):
        fit(**options(tmp_path, store, study="other"))
    with pytest.raises(InputError, match="no such file"):
        read_mlflow("mini", None, f"sqlite:///{tmp_path}/none.db")


def test_a_fit_is_a_run_beside_its_study_and_never_a_cell(tmp_path, store):
    uri = store[0]
    more = {"study": "mini", "log": None, "figures": True}
    fitted = fit(**options(tmp_path, store, **more))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("nethack").experiment_id
    (run,) = client.search_runs([experiment], "tags.kind = 'fit'")
    assert run.info.run_name == "fit mini"
    exponent = fitted["best_of_grid"]["loss"]["N_opt"]["exponent"]
    assert run.data.metrics["best_of_grid/loss/N_opt"] == pytest.approx(exponent)
    assert run.data.params["bootstraps"] == "0"
    names = documented("Fits and studies", computed="scaling/runs/fit_run.py")
    assert unknown(run.data.metrics, names) == []
    assert [n for n in unlogged(names, run.data.metrics) if not n.startswith("error/")] == []
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"fit.json", "report.html", "figures"} <= names
    figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert {"figures/profiles_loss.png", "figures/profiles_loss.svg"} <= figures
    for names in (("mini", None), (None, "nethack")):
        assert set(read_mlflow(*names, uri).table["run"]) == set(store[1].values())


def test_replays_are_of_the_best_run_at_the_highest_budget(store):
    rows = known_law(0.02, 4, budgets=5, sizes=5).rows
    last = rows[rows["flops"] == rows["flops"].max()].sort_values("loss")
    client = MlflowClient(store[0])
    for row in last.iloc[:2].to_dict("records"):
        for folder in (f"{row['samples']:.0f}", "7"):
            for kind, size in (("worst", 2_000_000), ("best", 10)):
                page, name = f"{row['params']:.0f} {folder}" + size * " ", f"{kind}.html"
                client.log_text(store[1][row["params"]], page, f"replays/{folder}/{name}")
    runs = read("mlflow", None, "mini", store[0], None, None)
    first, second = replays_of(runs, store[0])
    best = last.iloc[0]
    assert (first.kind, second.kind) == ("best", "worst")
    assert first.run == second.run == store[1][best["params"]]
    assert first.page.strip() == f"{best['params']:.0f} {best['samples']:.0f}"
    assert second.page is None  # too long
    assert second.path == f"replays/{best['samples']:.0f}/worst.html"
    cut = read("mlflow", None, "mini", store[0], None, [1e14, 6e16])
    assert replays_of(cut, store[0]) == []


def test_what_runs_share_and_where_they_differ(store):
    found = settings_of(read("mlflow", None, "mini", store[0], None, None), store[0])
    assert found.varied == {"policy.num_params": [f"{params:.0f}" for params in store[1]]}
    assert found.same == {"data.train_frames": "1551447", "git_commit": "0123456789abcdef"}
    shown = [("frames of an epoch", "1,551,447"), ("commit", "0123456789ab")]
    assert found.headlines == shown


def test_a_fit_of_a_csv_is_logged_where_a_store_is_given(tmp_path):
    path = tmp_path / "runs.csv"
    known_law(0.02, 4, budgets=4, sizes=4).rows.to_csv(path, index=False)
    uri = new_store(tmp_path / "fits.db")
    shared = {"bootstraps": 0, "figures": False, "output": str(tmp_path / "out")}
    fit(source="csv", path=str(path), tracking_uri=uri, **shared)
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("fits").experiment_id])
    assert run.info.run_name == "fit runs"
    assert run.info.artifact_uri.startswith(str(tmp_path / "mlartifacts"))


def test_a_forecast_is_compared_with_the_run_that_was_made(tmp_path, store):
    fit(**options(tmp_path, store, study="mini", budgets=[1e14, 6e16]))
    ahead = known_law(0.02, 4, budgets=5, sizes=5).rows["flops"].max()
    table = read_mlflow("mini", None, store[0]).table
    shared = {"fit": str(tmp_path / "out"), "budget": ahead, "tracking_uri": store[0]}
    found = forecast(**shared, study="mini")["comparison"]
    best = table[table["flops"] == ahead]["val/nats"].min()
    assert found["loss"]["measured"] == pytest.approx(best)
    assert found["return"]["measured"] > 0
    one = next(iter(store[1].values()))
    alone = forecast(**shared, run=one)["comparison"]["loss"]["measured"]
    assert alone > best
    given = forecast(**shared, study="mini", measured={"loss": 1.0, "return": None})
    assert given["comparison"]["loss"]["measured"] == 1.0
    with pytest.raises(InputError, match="no run has reached it"):
        measured_at(table, 1e20)


@pytest.mark.parametrize("key", ["study", "experiment"])
def test_keys_that_are_groups_of_other_verbs(key, tmp_path, store, monkeypatch, capsys):
    words = ["fit", "source=mlflow", f"tracking_uri={store[0]}", f"{key}=absent"]
    monkeypatch.setattr("sys.argv", ["agent-scaling", *words, f"output={tmp_path}"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert f"{key}=absent" in capsys.readouterr().err


def test_the_store_is_that_of_the_environment(tmp_path, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store[0])
    monkeypatch.chdir(tmp_path)
    fitted = fit(**options(tmp_path, store, study="mini") | {"tracking_uri": None})
    assert fitted["origin"]["tracking_uri"] == store[0]


@pytest.mark.parametrize("uri", ["sqlite:///{}/no.db", "file://{}/mlruns", "http://127.0.0.1:9"])
def test_a_store_that_cannot_be_read_is_one_line(tmp_path, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "no.db").write_text("hello")
    line = r"tracking_uri=.*: (MLflow cannot use this store|is a folder)"
    with pytest.raises(InputError, match=line) as error:
        read_mlflow("mini", None, uri.format(tmp_path))
    assert "\n" not in str(error.value)


STRANGE = {
    "origin": {"source": "mlflow", "study": "mini"},
    "budgets": [1e12, 1e17],
    "repeated": {"chosen": "effective"},
    "hyper": {"cells": 9},
}
"""As much of a fit's file as makes a forecast or a plan read its runs again."""


@pytest.mark.parametrize(
    "ask",
    [
        lambda fit: forecast(fit=fit, budget=2e17),
        lambda fit: forecast(fit=fit, **{"return": 10.0}),
        lambda fit: best_of_repeated(fit, 2e17, 1e6),
        lambda fit: settings_by(fit),
    ],
)
@pytest.mark.parametrize("kind", ["http", "sqlite"])
def test_a_fit_does_not_decide_which_store_is_asked(tmp_path, monkeypatch, ask, kind):
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "theirs.db"
    database.touch()  # MLflow would fill it with its tables
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        uri = f"http://u:secret@127.0.0.1:{server.getsockname()[1]}"
        uri = uri if kind == "http" else f"sqlite:///{database}"
        strange = STRANGE | {"origin": STRANGE["origin"] | {"tracking_uri": uri}}
        (tmp_path / "fit.json").write_text(json.dumps(strange))
        with pytest.raises(InputError, match=r"fit=.*yours is .*MLFLOW_TRACKING_URI") as refused:
            ask(str(tmp_path / "fit.json"))
        with pytest.raises(BlockingIOError):  # nobody has connected
            server.accept()
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert database.stat().st_size == 0


@pytest.mark.parametrize("way", ["the same", "relative", "given", "moved"])
def test_a_fit_is_read_from_the_store_that_the_user_names(tmp_path, store, monkeypatch, way):
    fit(**options(tmp_path, store, study="mini"))
    path, (uri, _) = tmp_path / "out" / "fit.json", store
    file = Path(uri.removeprefix("sqlite:///"))
    monkeypatch.chdir(file.parent)
    if way == "moved":
        path.write_text(path.read_text().replace(uri, "http://gone:5000"))
    if way in ("the same", "relative"):
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", {"the same": uri}.get(way, f"sqlite:///{file.name}")
        )
    row = forecast(
        fit=str(path), budget=1e18, tracking_uri=uri if way in ("given", "moved") else None
    )
    assert row["loss"] > 0


def test_a_masked_password_is_the_users_own(monkeypatch):
    whole = "https://user:secret@example.org/mlflow"
    fitted = {"file": "fit", "origin": {"tracking_uri": "https://***@example.org/mlflow"}}
    with pytest.raises(InputError, match="yours is sqlite"):
        agreed_store(fitted)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", whole)
    assert agreed_store(fitted) == whole
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("AGENT_SCALING_URLS", whole)
    assert agreed_store(fitted) == whole


@pytest.mark.parametrize("uri", ["sqlite:///{}/no.db", "http://127.0.0.1:9"])
def test_speeds_of_a_study_in_a_store_that_cannot_be_read_are_one_line(tmp_path, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="tracking_uri=") as error:
        of_finished("mini", Store(uri.format(tmp_path), "nethack", None))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "no.db").exists()  # it is read, not made


def test_a_store_without_its_files_says_where_they_were(tmp_path):
    uri = new_store(tmp_path / "moved.db")
    client = MlflowClient(uri)
    at = client.create_experiment("moved", artifact_location=f"{tmp_path}/was here")
    client.create_run(at, tags={"study": "mini"})
    with pytest.raises(InputError, match=r"folders that are not there, such as .*was here"):
        read_mlflow("mini", None, uri)
