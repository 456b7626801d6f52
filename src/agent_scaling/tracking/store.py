"""MLflow stores: their address, and opening one."""

from __future__ import annotations

from typing import Any

from agent_scaling.config.whole_urls import whole
from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.new_store import database_of, prepare

DEFAULT_STORE = "sqlite:///mlflow.db"
RUN_ID_FILE = "mlflow_run_id"
"""In a run's output folder: the id of its MLflow run."""
KIND = "kind"
"""Tag of runs that stand for no policy: of a fit, of a whole sweep or study."""


def open_store(tracking_uri: str) -> Any:
    """An MLflow client; raises :class:`InputError` where a sqlite store is not there."""
    path = database_of(tracking_uri)
    if path is not None and not path.exists():
        raise InputError(f"tracking_uri={tracking_uri}: no such file; give the runs' store")
    return open_or_make_store(tracking_uri)


def open_or_make_store(tracking_uri: str) -> Any:
    """An MLflow client of a store, which is made first where it is a new sqlite file."""
    from mlflow import MlflowClient  # takes seconds to import

    uri = whole(tracking_uri, "tracking_uri")
    prepare(uri)
    return MlflowClient(uri)
