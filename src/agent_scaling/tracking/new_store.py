"""Makes sqlite stores for MLflow whole or not at all, and reports half-made ones."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from agent_scaling.config.command import quoted
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.files import PARTIAL, part_of, sync_directory
from agent_scaling.runtime.locks import locked
from agent_scaling.runtime.secrets import mask

SQLITE = "sqlite:///"
ADDRESS = re.compile(r"sqlite(?:\+\w+)?:///([^?]*)\??(.*)", re.DOTALL)
"""A sqlite store's URL, with a driver or without: the database and the query."""
MEMORY = ":memory:"
QUERY = {
    "timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements", "uri",
    "mode", "cache", "immutable", "nolock", "vfs", "psow", "modeof", "autocommit",
}  # fmt: skip
"""Settings that an sqlite address may have behind a question mark."""
HOST = re.compile(r"[^/]*:\d+/?")
MISTYPED = re.compile(r"(?:https?|sqlite|postgres|mysql|mssql)[\w+]*:?/", re.I)


def database_of(tracking_uri: str) -> Path | None:
    """Return the file of a sqlite store; None for stores of other kinds, and in memory.

    The database may be a URL itself (``file:mlflow.db?mode=rw&uri=true``).
    """
    found = ADDRESS.fullmatch(tracking_uri)
    if found is None:
        return None
    name, query = found[1], parse_qs(found[2])
    if name.startswith("file:") and "uri" in query:
        name = "" if "memory" in query.get("mode", ()) else unquote(urlsplit(name).path)
    return Path(name) if name and name != MEMORY else None


def check_address(tracking_uri: str) -> None:
    """Refuse addresses that no run can be kept at.

    Raises:
        InputError: It is empty, a folder, a mistyped URL, or a database in memory.
    """
    given, fix = f"tracking_uri={mask(tracking_uri)}", "give sqlite:///FILE or http://HOST:PORT"
    host, is_file = HOST.fullmatch(tracking_uri), tracking_uri.endswith((".db", ".sqlite"))
    scheme, separator, _ = tracking_uri.partition("://")
    if ADDRESS.fullmatch(tracking_uri) or tracking_uri == "sqlite://":
        if database_of(tracking_uri) is None:
            raise InputError(
                f"{given}: is a database in memory, which ends with its process; {fix}"
            )
        if odd := set(parse_qs(urlsplit(tracking_uri).query, True)) - QUERY:
            raise InputError(
                f"{given}: a question mark begins settings of the database, not {min(odd)}; "
                "name a file without one, such as sqlite:///mlflow.db (in the working directory)"
            )
        return
    if not tracking_uri.strip():
        raise InputError(f"{given}: is empty; {fix}")
    if tracking_uri.partition(":")[0] in ("databricks", "databricks-uc", "uc"):
        return
    if MISTYPED.match(tracking_uri) and not separator:
        raise InputError(f"{given}: is no URL, which has :// behind its scheme; {fix}")
    allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
    if not separator and (host or is_file):
        raise InputError(f"{given}: has no scheme; {fix}")
    if (not separator or scheme == "file") and not allowed:
        raise InputError(
            f"{given}: is a folder, which MLflow no longer takes as a store; {fix} (mlflow "
            "migrate-filestore moves a folder's runs)"
        )


def prepare(tracking_uri: str) -> None:
    """Make a sqlite store if it does not exist; leave other stores alone.

    MLflow makes its tables by dozens of migrations in place, and cannot continue after a kill.
    Here they run in a file beside the target, under a lock that ends with its process; the finished
    store is then renamed.

    Raises:
        InputError: The address is none of a store, or the store was left half made or cannot be
            written.
    """
    check_address(tracking_uri)
    logging.getLogger("mlflow.store.db.utils").addFilter(_is_warning)
    # It warns of what the error that follows says.
    logging.getLogger("mlflow.utils.databricks_utils").setLevel(logging.ERROR)
    path = database_of(tracking_uri)
    if path is not None and path.is_dir():  # MLflow would try it for minutes
        raise InputError(f"tracking_uri={tracking_uri}: is a folder; give a file, or another store")
    if path is None or not path.parent.is_dir():  # MLflow explains what is wrong
        return
    if is_blank(path):
        if {"'", '"'} <= set(str(Path.cwd())):  # MLflow writes it into its SQL as Python quotes it
            raise InputError(
                f"tracking_uri={tracking_uri}: MLflow makes no store while the working directory "
                "has ' and \" in its name: rename it, or begin elsewhere"
            )
        from sqlalchemy.exc import SQLAlchemyError

        try:
            _make_once(path.resolve())
        except (OSError, SQLAlchemyError) as error:
            why = error.strerror if isinstance(error, OSError) else error_line(error)
            raise InputError(
                f"tracking_uri={tracking_uri}: cannot be made ({why}); make room, or give a place "
                "that can be written"
            ) from None
    elif is_half_made(path):
        remove = f"rm {quoted(str(path))}"
        raise InputError(
            f"{path}: an MLflow store without any run that was never finished, or of another "
            f"version of MLflow: remove the file ({remove}) and run the same command again"
        )


def _is_warning(record: logging.LogRecord) -> bool:
    """True for a warning; False for an exception that MLflow logs before it raises it, at 90 lines
    a time, and for the tables that it makes, which would stand beside an error's one line."""
    return record.exc_info is None and record.levelno >= logging.WARNING


def is_blank(path: Path) -> bool:
    """True where there is no file, or a database without a table."""
    return not path.exists() or tables_of(path) == set()


def is_half_made(path: Path) -> bool:
    """True for a store of MLflow's that has no run and not the tables of this MLflow's version."""
    tables = tables_of(path)
    if not tables or "experiments" not in tables:
        return False
    with closing(_opened(path)) as database, suppress(sqlite3.Error):
        if "runs" in tables and database.execute("select 1 from runs limit 1").fetchone():
            return False
        if "alembic_version" not in tables:
            return True
        found = database.execute("select version_num from alembic_version").fetchall()
        return [row[0] for row in found] != [newest_schema()]
    return False


@cache
def newest_schema() -> str | None:
    """Return the revision of the tables that this version of MLflow makes."""
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent)).get_current_head()


def tables_of(path: Path) -> set[str] | None:
    """Return the names of a database's tables; None for a file that sqlite cannot read."""
    try:
        with closing(_opened(path)) as database:
            rows = database.execute("select name from sqlite_master where type = 'table'")
            return {str(name) for (name,) in rows}
    except sqlite3.Error:
        return None


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _make_once(path: Path) -> None:
    """Make the store, unless another process does so at the same moment."""
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, wait=True):
        if is_blank(path):
            _make(path)
        # Processes that wait for the lock then find the store. Where it could not be made, the lock
        # stays: they would make one beside those that come later, and one would replace the other.
        lock.unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Run MLflow's migrations in a file beside ``path``, then rename it."""
    from mlflow import MlflowClient  # takes seconds to import
    from mlflow.tracking._tracking_service import utils

    for left in path.parent.glob(f".{path.name}.*{PARTIAL}*"):  # left by processes that were killed
        left.unlink(missing_ok=True)
    part = part_of(path)
    try:
        # An address ends at a question mark, which a folder above may have in its name.
        uri = f"{SQLITE}{os.path.relpath(part) if '?' in str(part) else part}"
        MlflowClient(uri).search_experiments(max_results=1)
        store: Any = utils
        store._get_store(uri).engine.dispose()  # the file gets another name
        part.replace(path)
        sync_directory(path.parent)
    finally:
        for left in path.parent.glob(f"{part.name}*"):
            left.unlink(missing_ok=True)
