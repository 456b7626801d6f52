"""One run in an MLflow store: begun or found as soon as the store answers, then sent to."""

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

from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.secrets import masked
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.outbox import Entry
from agent_scaling.tracking.registry import hand_in
from agent_scaling.tracking.store import RACING, find_experiment

PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
"""What a store raises that does not take something."""
TOO_MANY_REQUESTS = 429


def is_away(error: BaseException) -> bool:
    """Whether a store that raised this may take the same at another time."""
    if isinstance(error, MlflowException):
        about: Any = error
        status = about.get_http_status_code()
        return bool(status >= 500 or status == TOO_MANY_REQUESTS)
    return "unable to open database file" not in str(error)  # sqlite's, of a folder that is none


def begin_entry(
    run_name: str | None,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    inputs: Sequence[DatasetInput],
) -> Entry:
    """What a new run says of itself, from now on; too long values are cut."""
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
    """Milliseconds, as MLflow counts time."""
    return int(time.time() * 1000)


@contextmanager
def artifact_errors() -> Iterator[None]:
    """S3's, Google's and Azure's clients have errors of their own: they become OSError."""
    try:
        yield
    except STORE_ERRORS:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class TrackedRun:
    """The run that a logger writes to; nothing is asked of the store before something is sent.

    Args:
        client: Of the store.
        experiment: The experiment's name, for a run that is begun.
        artifact_location: Of an experiment that is new.
        run_id: A run that was begun; None: ``send`` begins one.
        remember: A file that gets the id of the run that is begun, at once.
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
        """Learn what the store has of a run that an earlier process began; raises its errors."""
        if self._found or self.id is None:
            return
        run = self._client.get_run(self.id)
        self.experiment_id = run.info.experiment_id
        for name in run.data.metrics:
            history = self._client.get_metric_history(self.id, name)
            self.last_steps[name] = max(point.step for point in history)
        self._found = True

    def send(self, entry: Entry) -> None:
        """Send an entry of the outbox; twice does no harm. Raises one of :data:`STORE_ERRORS`."""
        if "begin" in entry or self.id is None:
            self._begin(entry.get("begin") or begin_entry(None, {}, {}, ())["begin"])
        self.find()
        if "points" in entry:
            self._send_points(entry["points"])
        elif "file" in entry and there(entry["file"]):
            with artifact_errors():
                self._client.log_artifact(self.id, entry["file"], entry["folder"])
        elif "model" in entry and there(entry["model"]):
            with artifact_errors():
                hand_in(self._client, str(self.id), entry)
        elif "status" in entry:
            self._send_status(entry["status"], entry.get("at"))

    def _begin(self, said: Mapping[str, Any]) -> None:
        """Create the run, unless an earlier attempt did, and write what it says of itself."""
        client = self._client
        if self.id is None:
            self.experiment_id = find_experiment(client, self._experiment, self._artifact_location)
            run = client.create_run(self.experiment_id, said["at"], said["context"])
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
        """Points, but those of steps that the store has from before the run was taken up."""
        new = [Metric(*p) for p in points if p[3] > self.last_steps.get(p[0], -1)]
        if new:
            self._client.log_batch(self.id, metrics=new)

    def _send_status(self, status: str, at: int | None) -> None:
        if status in ("FINISHED", "FAILED"):
            self._client.set_terminated(self.id, status, at)
        else:
            self._client.update_run(self.id, status=status)


def there(path: str) -> bool:
    """Whether what was to be sent is still there; says so if not, and nothing waits for it."""
    if found := Path(path).exists():
        return found
    say(f"{path} has gone before MLflow took it: it is left out, the rest is sent")
    return False


def dataset_input(saved: Mapping[str, Any]) -> DatasetInput:
    """What ``DatasetInput.to_dictionary`` was made of."""
    tags = [InputTag(name, value) for name, value in saved["tags"].items()]
    return DatasetInput(Dataset(**saved["dataset"]), tags)
