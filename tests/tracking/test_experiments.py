"""Experiments of an MLflow store are found, created or restored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_scaling.tracking.store import find_experiment, open_or_make_store, runs_of_study
from tests.helpers.stores import new_store


def test_an_experiment_is_created_once_and_restored_after_it_was_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = open_or_make_store(new_store(tmp_path / "mlflow.db"))
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(find_experiment, client, "games") for _ in range(4)]
        (experiment_id,) = {call.result() for call in calls}
    client.delete_experiment(experiment_id)
    assert find_experiment(client, "games") == experiment_id
    assert client.get_experiment(experiment_id).lifecycle_stage == "active"
    assert "games had been deleted: it is restored" in capsys.readouterr().out.replace("\n", " ")


def test_a_study_is_found_whatever_its_name(tmp_path: Path) -> None:
    client = open_or_make_store(new_store(tmp_path / "mlflow.db"))
    experiment = find_experiment(client, "games")
    names = ["s1", "s'1", 's"1', "s'\"1", 'sx"1', "s%1", "s\\'1"]
    for name in names:
        client.create_run(experiment, tags={"study": name})
    for name in names:
        found = runs_of_study(client, [experiment], name)
        assert [run.data.tags["study"] for run in found] == [name]
    assert len(runs_of_study(client, [experiment], None)) == len(names)
