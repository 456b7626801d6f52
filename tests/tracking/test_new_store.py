"""New sqlite stores are made whole or not at all."""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.new_store import (
    database_of,
    is_half_made,
    newest_schema,
    prepare,
    tables_of,
)
from agent_scaling.tracking.store import open_or_make_store, open_store, store_errors
from tests.helpers.runs import forked
from tests.helpers.stores import new_store

EARLIER = "bd07f7e963c5"
"""A revision on MLflow's way to its tables."""


def test_a_kill_leaves_no_half_made_store_and_those_who_come_together_find_one(
    tmp_path: Path,
) -> None:
    store = tmp_path / "mlflow.db"
    first = forked(prepare, f"sqlite:///{store}")
    while first.is_alive() and not list(tmp_path.glob(".mlflow.db.*.partial")):
        time.sleep(0.001)
    first.kill()
    first.join()
    assert not store.exists()
    together = [forked(prepare, f"sqlite:///{store}") for _ in range(2)]
    for process in together:
        process.join()
    assert [process.exitcode for process in together] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert MlflowClient(f"sqlite:///{store}").search_experiments()
    with closing(sqlite3.connect(store)) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [
            (newest_schema(),)
        ]


@pytest.mark.parametrize("left", [f"update alembic_version set version_num = '{EARLIER}'",
                                  "delete from alembic_version",
                                  "drop table alembic_version"])  # fmt: skip
def test_a_store_that_was_cut_off_is_named(tmp_path: Path, left: str) -> None:
    uri = new_store(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute(left)
        database.commit()
    with pytest.raises(InputError, match=r"mlflow\.db: .* never finished.*remove the file"):
        open_store(uri)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////var/a%20b.db?timeout=60", "/var/a%20b.db"),
        ("sqlite+pysqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:///file:runs/a%20b.db?mode=rwc&uri=true", "runs/a b.db"),
        ("sqlite:///file:///var/mlflow.db?uri=true", "/var/mlflow.db"),
        ("sqlite:///file:x?mode=memory&uri=true", None),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("postgresql://user@host/mlflow", None),
    ],
)
def test_the_file_of_every_spelling(uri: str, file: str | None) -> None:
    assert database_of(uri) == (None if file is None else Path(file))


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("", "is empty"),
        ("sqlite://", "is a database in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "is a database in memory"),
        ("mlruns", "is a folder, which MLflow no longer takes"),
        ("file:///mlruns", "is a folder, which MLflow no longer takes"),
        ("http:/host:5000", "is no URL"),
        ("sqlite:/m.db", "is no URL"),
        ("localhost:5000", "has no scheme"),
        ("mlflow.db", "has no scheme"),
        ("sqlite:////tmp/what?/mlflow.db", "a question mark begins settings of the database"),
        ("sqlite:////tmp/what?/a=b/mlflow.db", "a question mark begins settings"),
    ],
)
def test_an_address_at_which_no_run_is_kept(
    uri: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(InputError, match=rf"tracking_uri=.*: {line}[^\n]* sqlite:///"):
        open_or_make_store(uri)


@pytest.mark.parametrize("uri", ["sqlite+pysqlite:///a.db", "sqlite:///file:b.db?uri=true"])
def test_a_new_store_is_made_beside_its_place_whatever_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """Also below a folder with a question mark, which an address cannot name."""
    folder = tmp_path / "what?" / "this"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    prepare(uri)
    (made,) = folder.iterdir()
    assert made.name == str(database_of(uri))
    assert tables_of(made)
    assert not is_half_made(made)
    assert list(tmp_path.iterdir()) == [tmp_path / "what?"]


def test_a_store_with_runs_is_never_called_half_made(tmp_path: Path) -> None:
    uri = new_store(tmp_path / "mlflow.db")
    MlflowClient(uri).create_run("0")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute(f"update alembic_version set version_num = '{EARLIER}'")
        database.commit()
    prepare(uri)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tracking_uri=.*cannot be made"):
        prepare(f"sqlite:////proc/{tmp_path.name}.db")


def test_a_disk_without_room_for_a_new_store_is_one_line(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(InputError, match=r"mlflow\.db: cannot be made .*make room"):
            prepare(f"sqlite:///{tmp_path}/mlflow.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [".mlflow.db.lock"]


def test_a_folder_in_a_stores_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        prepare(f"sqlite:///{tmp_path}")


def test_tables_that_are_made_again_are_not_announced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error that follows is one line."""
    uri = new_store(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("drop table latest_metrics")
    open_store(uri).search_experiments()
    assert capfd.readouterr() == ("", "")


def test_databricks_without_its_credentials_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match="tracking_uri=databricks: "), store_errors("databricks"):
        open_store("databricks").search_experiments()
    assert capfd.readouterr().err == ""
