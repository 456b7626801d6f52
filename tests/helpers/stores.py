"""MLflow stores for tests, as copies: MLflow takes a second to make one, and ninety syncs."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from filelock import FileLock

EMPTY = "AGENT_SCALING_EMPTY_STORE"
"""Where the store is that others are copies of, once a test has wanted one; children inherit it."""


def new_store(path: Path) -> str:
    """The URI of the store at ``path``: an empty one, if there is none and its folder can be."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.is_dir() and not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        shutil.copyfile(empty_store(), partial)
        with contextlib.suppress(FileExistsError):  # another rank was first, and may have written
            path.hardlink_to(partial)
        partial.unlink()
    return f"sqlite:///{path}"


def empty_store() -> Path:
    """A store without runs that nobody writes to, made by the first who asks."""
    path = Path(os.environ[EMPTY])
    with FileLock(f"{path}.lock"):
        if not path.exists():
            from mlflow import MlflowClient  # takes seconds to import

            partial = path.with_name("partial.db")
            MlflowClient(f"sqlite:///{partial}").search_experiments()
            partial.rename(path)
    return path
