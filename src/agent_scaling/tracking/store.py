"""MLflow stores: their address, and opening one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import tenacity

from agent_scaling.config.whole_urls import whole
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.new_store import database_of, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_STORE = "sqlite:///mlflow.db"
STORE_VARIABLE = "MLFLOW_TRACKING_URI"
RUN_ID_FILE = "mlflow_run_id"
"""In a run's output folder: the id of its MLflow run."""
KIND = "kind"
"""Tag of runs without a policy: those of a fit, of a sweep or of a study."""
KIND_OF_EXPERIMENT = ("mlflow.experimentKind", "custom_model_development")
"""Tag of an experiment; without it, MLflow opens the experiment's page in its chat mode."""
MODE = "workflowType=machine_learning"
"""Ends the address of a page in MLflow's UI, whose first visit is else in its chat mode."""
MOST_RUNS = 10_000
"""Runs that are read of a study."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Limits that apply unless the user sets others; MLflow's own would block for minutes."""
RACED = ("unique", "duplicate", "already exists")
"""Words in the errors of stores that already have a row: sqlite and PostgreSQL, MySQL, MLflow."""


def lost_race(error: BaseException) -> bool:
    """Return True where another process added the same row in between."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and any(word in str(error).lower() for word in RACED)


RACING = tenacity.Retrying(
    retry=tenacity.retry_if_exception(lost_race), stop=tenacity.stop_after_attempt(5), reraise=True
)
"""Repeats a call that looks a row up and adds it if it is missing: of several processes that do so
at the same moment one adds the row, and the others find it at their next attempt."""


def runs_of_study(client: MlflowClient, experiments: list[str], study: str | None) -> list[Run]:
    """Return the runs of some experiments with the tag ``study``, or all of them for None.

    MLflow's filters have no way to write a quote inside the quotes of the same kind: a name that
    holds both kinds is searched for with a wildcard, and compared here.
    """
    where = ""
    if study is not None:
        quote = '"' if "'" in study else "'"
        word = study.replace(quote, "_")
        where = f"tags.study {'=' if word == study else 'LIKE'} {quote}{word}{quote}"
    found = client.search_runs(experiments, where, max_results=MOST_RUNS)
    return [run for run in found if study is None or run.data.tags["study"] == study]


def find_experiment(client: MlflowClient, name: str, artifact_location: str | None = None) -> str:
    """Return the id of the experiment ``name``; create it, or restore it, where it is not active.

    Args:
        client: MLflow client of the store.
        name: The experiment's name.
        artifact_location: Where the files of a new experiment go; None: MLflow's default.
    """

    def find() -> str:
        known = client.get_experiment_by_name(name)
        if known is None:
            return str(client.create_experiment(name, artifact_location=artifact_location))
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
            say(f"MLflow experiment {name} had been deleted: it is restored, with its runs")
        return str(known.experiment_id)

    experiment_id: str = RACING(find)
    RACING(client.set_experiment_tag, experiment_id, *KIND_OF_EXPERIMENT)
    return experiment_id


def default_store() -> str:
    """Return the store of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working directory."""
    return os.environ.get(STORE_VARIABLE) or DEFAULT_STORE


def same_store(one: str, other: str) -> bool:
    """Return True for two addresses of one store; either may have its password masked."""
    files = database_of(one), database_of(other)
    if files[0] is not None and files[1] is not None and "?" not in one + other:
        return files[0].resolve() == files[1].resolve()
    return mask(one).rstrip("/") == mask(other).rstrip("/")


def be_patient() -> None:
    """Let MLflow ask a server as often and as long as :data:`PATIENCE` says."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


def without_driver(tracking_uri: str, error: ImportError) -> InputError:
    """Return the error of a database whose driver is not installed."""
    return InputError(
        f"tracking_uri={tracking_uri}: {error}: install this database's driver, such as psycopg2 "
        "for PostgreSQL or pymysql for mysql+pymysql://"
    )


@contextmanager
def store_errors(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow or the database raises in the block into an :class:`InputError`."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise without_driver(tracking_uri, error) from error
    except Exception as error:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        # protobuf's are of an answer that is not MLflow's
        answered = type(error).__module__.startswith("google.protobuf")
        if not answered and not isinstance(error, MlflowException | SQLAlchemyError | OSError):
            raise
        raise InputError(
            f"tracking_uri={tracking_uri}: MLflow cannot use this store ({error_line(error)}); "
            "check that it is there and of this version of MLflow (agent-scaling doctor)"
        ) from error


def open_store(tracking_uri: str) -> MlflowClient:
    """Return an MLflow client; raise :class:`InputError` where a sqlite store does not exist."""
    path = database_of(tracking_uri)
    if path is not None and not path.exists():
        raise InputError(f"tracking_uri={tracking_uri}: no such file; give the runs' store")
    return open_or_make_store(tracking_uri)


def read_artifact(client: MlflowClient, run_id: str, path: str) -> str:
    """Read a text file of a run's artifacts; nothing of the download stays on the disk."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        found = client.download_artifacts(run_id, path, folder)
        return Path(found).read_text(encoding="utf-8")


def open_or_make_store(tracking_uri: str) -> MlflowClient:
    """Return an MLflow client of a store; a sqlite store that does not exist is made.

    Raises:
        InputError: MLflow cannot use the store.
    """
    from mlflow import MlflowClient  # the import takes seconds

    be_patient()
    uri = whole(tracking_uri, "tracking_uri")
    with store_errors(uri):
        prepare(uri)
        return MlflowClient(uri)
