"""Runs that an MLflow store holds already."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException

from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.store import open_store


class StoredRun:
    """A run of an MLflow store, to which files can be added; any process may have begun it.

    Args:
        tracking_uri: The store.
        run_id: The run.

    Raises:
        InputError: There is no such run.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self.run_id, self._client = run_id, open_store(tracking_uri)
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            raise InputError(
                f"mlflow_run_id={run_id}: not found in {tracking_uri} ({error.message}); "
                "give the run's tracking_uri="
            ) from None

    def log_file(self, path: Path, folder: str) -> None:
        """Copy a file to the run's artifacts."""
        self._client.log_artifact(self.run_id, str(path), folder)
