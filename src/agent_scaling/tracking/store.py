"""MLflow stores: their address, and opening one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_scaling.runtime.errors import InputError

DEFAULT_STORE = "sqlite:///mlflow.db"
RUN_ID_FILE = "mlflow_run_id"
"""In a run's output folder: the id of its MLflow run."""
KIND = "kind"
"""Tag of runs that stand for no policy: of a fit, of a whole sweep or study."""


def open_store(tracking_uri: str) -> Any:
    """An MLflow client; raises :class:`InputError` where a sqlite store is not there."""
    from mlflow import MlflowClient  # takes seconds to import

    path = tracking_uri.removeprefix("sqlite:///")
    if path != tracking_uri and not Path(path).exists():
        raise InputError(f"tracking_uri={tracking_uri}: no such file; give the runs' store")
    return MlflowClient(tracking_uri)
