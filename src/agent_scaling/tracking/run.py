"""One run in an MLflow store, which is begun or found as soon as the store answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from sqlalchemy.exc import SQLAlchemyError

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.secrets import masked
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.outbox import Entry
from agent_scaling.tracking.registry import hand_in
from agent_scaling.tracking.store import RACING, find_experiment

PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
"""Exceptions of a store that refuses a request."""
TOO_MANY_REQUESTS = 429


def is_away(error: BaseException) -> bool:
    """True where the store may take the same request at another time."""
    if isinstance(error, MlflowException):
        about: Any = error
        status = about.get_http_status_code()
        return bool(status >= 500 or status == TOO_MANY_REQUESTS)
    return "unable to open database file" not in str(error)  # sqlite: no such folder


def begin_entry(
    run_name: str | None,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    inputs: Sequence[DatasetInput],
) -> Entry:
    """Return the entry that begins a run now; too long values are cut."""
    context = resolve_tags({MLFLOW_RUN_NAME: run_name} if run_name else None)
    about = {
        "begin": {
            "at": now(),
            "context": context,
            "params": {name: str(value)[:PARAM_LENGTH] for name, value in params.items()},
            "tags": {name: str(value) for name, value in tags.items()},
            "inputs": [data.to_dictionary() for data in inputs],
        }
    }
    return {name: masked(value) for name, value in about.items()}


def now() -> int:
    """Return the time in MLflow's unit, milliseconds."""
    return int(time.time() * 1000)


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn what MLflow's client raises besides :data:`STORE_ERRORS` into OSError.

    These are errors of S3's, Google's and Azure's clients, and those of reading an answer that is
    not MLflow's, as of a proxy or of another server at that port.
    """
    try:
        yield
    except (*STORE_ERRORS, InputError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class TrackedRun:
    """The run that a logger writes to; its first request goes out with the first entry.

    Args:
        client: MLflow client of the store.
        experiment: The experiment's name, for a new run.
        artifact_location: Where a new experiment keeps artifacts.
        run_id: A run that exists; with None, ``send`` begins one.
        remember: A file that receives the id of a new run at once.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment: str,
        artifact_location: str | None = None,
        run_id: str | None = None,
        remember: Path | None = None,
    ) -> None:
        self._client: Any = client
        self._experiment, self._artifact_location = experiment, artifact_location
        self._remember = remember
        self._found = False
        self.id = run_id
        self.experiment_id: str | None = None
        self.last_steps: dict[str, int] = {}
        """Metric → the last step that an earlier process has logged."""

    def find(self) -> None:
        """Ask the store which steps an earlier process has logged; its errors are raised."""
        if self._found or self.id is None:
            return
        with client_errors():
            run = self._client.get_run(self.id)
            self.experiment_id = run.info.experiment_id
            for name in run.data.metrics:
                history = self._client.get_metric_history(self.id, name)
                self.last_steps[name] = max(point.step for point in history)
        self._found = True

    def send(self, entry: Entry) -> None:
        """Send an entry of the outbox; a repeat is harmless. Raises one of :data:`STORE_ERRORS`."""
        with client_errors():
            self._send(entry)

    def _send(self, entry: Entry) -> None:
        if "begin" in entry or self.id is None:
            self._begin(entry.get("begin") or begin_entry(None, {}, {}, ())["begin"])
        self.find()
        if "points" in entry:
            self._send_points(entry["points"])
        elif "file" in entry and there(entry["file"]):
            self._client.log_artifact(self.id, entry["file"], entry["folder"])
        elif "model" in entry and there(entry["model"]):
            hand_in(self._client, str(self.id), entry)
        elif "tags" in entry:
            self._client.update_run(self.id, name=entry["name"])
            tags = [RunTag(name, value) for name, value in entry["tags"].items()]
            self._client.log_batch(self.id, tags=tags)
        elif "status" in entry:
            self._send_status(entry["status"], entry.get("at"))

    def _begin(self, said: Mapping[str, Any]) -> None:
        """Create the run, unless an earlier attempt did; write its parameters, tags and inputs."""
        client = self._client
        if self.id is None:
            self.experiment_id = find_experiment(client, self._experiment, self._artifact_location)
            run = client.create_run(self.experiment_id, said["at"], said["context"])
            if not run.info.run_id:
                raise OSError("it answers, but not as an MLflow server does")
            self.id, self._found = str(run.info.run_id), True
            if self._remember is not None:
                write_file(self._remember, self.id)
        params = [Param(name, value) for name, value in said["params"].items()]
        for begin in range(0, len(params), PARAMS_PER_CALL):
            client.log_batch(self.id, params=params[begin : begin + PARAMS_PER_CALL])
        tags = [RunTag(name, value) for name, value in said["tags"].items()]
        client.log_batch(self.id, tags=tags)
        if inputs := [dataset_input(data) for data in said["inputs"]]:
            RACING(client.log_inputs, self.id, inputs)

    def _send_points(self, points: Sequence[Sequence[Any]]) -> None:
        """Send points, except for steps that the store had before the run was resumed."""
        new = [Metric(*p) for p in points if p[3] > self.last_steps.get(p[0], -1)]
        if new:
            self._client.log_batch(self.id, metrics=new)

    def _send_status(self, status: str, at: int | None) -> None:
        if status in ("FINISHED", "FAILED"):
            self._client.set_terminated(self.id, status, at)
        else:
            self._client.update_run(self.id, status=status)


def there(path: str) -> bool:
    """True where the file to send still exists; if not, print so, and the entry is dropped."""
    if found := Path(path).exists():
        return found
    say(f"{path} has gone before MLflow took it: it is left out, the rest is sent")
    return False


def dataset_input(saved: Mapping[str, Any]) -> DatasetInput:
    """Return the ``DatasetInput`` that ``to_dictionary`` was called on."""
    tags = [InputTag(name, value) for name, value in saved["tags"].items()]
    return DatasetInput(Dataset(**saved["dataset"]), tags)
