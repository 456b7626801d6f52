"""Checks of the MLflow store and of a set of shards."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from agent_scaling.cli.doctor.findings import Asked, Finding, broken, ok
from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.new_store import check_address

if TYPE_CHECKING:
    from sqlalchemy import Connection

ANSWER_SECONDS = 5.0
SQLITE = "sqlite:///"
HEALTHY = b"OK"
"""The answer of an MLflow server to ``/health``."""


def store(asked: Asked) -> Finding:
    """Check that the MLflow store answers, and that a database has this MLflow's schema."""
    uri = asked.tracking_uri
    if uri.startswith(("http://", "https://")):
        return server(uri)
    if "://" not in uri or uri.startswith("file:"):
        return broken(f"{uri} is a store of files, which MLflow refuses", f"{SQLITE}mlflow.db")
    try:
        check_address(uri)
    except InputError as error:
        text, _, fix = str(error).rpartition("; ")
        return broken(text, fix)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return ok(f"{uri}: not there yet, the first run makes it")
    return database(uri)


def server(uri: str) -> Finding:
    """Check that an MLflow server answers."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS) as answer:
            if answer.read(len(HEALTHY) + 1).strip() == HEALTHY:
                return ok(f"{uri} answers")
            return broken(f"{uri} answers, but not as MLflow does", "give an MLflow server's URL")
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        return broken(f"{uri} does not answer ({reason})", "start it: mlflow server; or another")


def damage(connection: Connection) -> str:
    """Return what is wrong with a database that has the schema of this MLflow, or nothing."""
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from sqlalchemy import inspect

    if connection.dialect.name == "sqlite":
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if found != "ok":
            return " ".join(found.split())
    lost = sorted(set(SqlRun.metadata.tables) - set(inspect(connection).get_table_names()))
    return f"without the tables {', '.join(lost)}" if lost else ""


def database(uri: str) -> Finding:
    """Check that a database is readable and has this MLflow's schema."""
    import mlflow.store.db_migrations
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    scripts = ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent))
    known = {script.revision for script in scripts.walk_revisions()}
    try:
        engine = create_engine(uri)
        shown = engine.url.render_as_string()  # the URL, without its password
        with closing(engine.connect()) as connection:
            there = MigrationContext.configure(connection).get_current_revision()
            torn = damage(connection) if there == scripts.get_current_head() else ""
        engine.dispose()
    except SQLAlchemyError as error:
        line = str(getattr(error, "orig", None) or error).partition("\n")[0]
        return broken(f"the database does not open ({line})", "check it and tracking_uri=")
    except ImportError as error:
        return broken(f"no driver for the database ({error})", f"pip install {error.name}")
    if torn:
        return broken(
            f"{shown} is damaged ({torn})", "put back a copy, or try: sqlite3 FILE .recover"
        )
    if there == scripts.get_current_head():
        return ok(f"{shown}: schema {there}")
    if there is None:
        return broken(f"{shown} is no store of MLflow's", "another tracking_uri=")
    if there in known:
        fix = f"copy it, then: mlflow db upgrade {shown}"
        return broken(f"{shown} has the schema of an older MLflow, {there}", fix)
    return broken(f"{shown} has the schema of a newer MLflow, {there}", "pip install -U 'mlflow<4'")


def shards(asked: Asked) -> Finding | None:
    """Check that manifest, indexes and sizes agree, and that a chunk of each split decodes."""
    if asked.shards is None:
        return None
    from agent_scaling.data.shards.reader import ShardReader

    parts = []
    try:
        for split in ("train", "val"):
            reader = ShardReader(asked.shards, split)
            if reader.games:
                reader.chunk(0, 0, reader.decoder())
            frames = sum(game.frames for game in reader.games)
            parts.append(f"{split} {len(reader.games)} games, {frames:,} frames")
    except InputError as error:
        text, _, fix = str(error).rpartition(": ")
        return broken(text or str(error), fix if text else "convert the games again")
    return ok("; ".join(parts))
