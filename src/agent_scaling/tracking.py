"""MLflow as the record: a logger that buffers, and what every run says of itself."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tenacity
from lightning import Trainer
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from agent_scaling.checkpoint import error_line
from agent_scaling.errors import InputError
from agent_scaling.flops import Convention
from agent_scaling.models import hand_in
from agent_scaling.outbox import Entry, Outbox
from agent_scaling.say import say

POINTS_PER_CALL = 1000  # MLflow's limit for one log_batch
PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000
RUN_ID_FILE = "mlflow_run_id"
"""In a run's output folder: the id of its MLflow run."""
OUTBOX_FILE = "mlflow_waiting.jsonl"
"""Beside it: what the store has not taken yet."""
KIND_OF_EXPERIMENT = ("mlflow.experimentKind", "custom_model_development")
"""Tag of an experiment."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Unless the user sets them: MLflow's own would hold training up for minutes."""


RACED = ("unique", "duplicate", "already exists")
"""What stores say that have a row already: sqlite and PostgreSQL, MySQL, MLflow itself."""


def lost_race(error: BaseException) -> bool:
    """Whether another process has added the same row in between."""
    return isinstance(error, MlflowException) and any(word in str(error).lower() for word in RACED)


RACING = tenacity.Retrying(
    retry=tenacity.retry_if_exception(lost_race), stop=tenacity.stop_after_attempt(5), reraise=True
)
"""MLflow looks for an experiment, its tags and a data set, and adds them then: of runs that begin
at the same moment one does, and the others find them the next time."""


class Counted(Protocol):
    """A module that knows how far it has been trained."""

    frames: int
    """Frames so far, all ranks."""
    step_frames: int
    """Frames that the last step added."""
    flops_per_frame: float
    """What the next frame costs, ``model`` convention."""

    @property
    def spent(self) -> Mapping[Convention, float]:
        """FLOPs so far, by convention."""

    @property
    def parts(self) -> Mapping[str, float]:
        """FLOPs so far by what they were spent on, ``model`` convention."""

    @property
    def flops(self) -> float:
        """FLOPs so far, ``model`` convention."""


class BufferedMLFlowLogger(MLFlowLogger):
    """MLFlowLogger whose metrics wait until a thousand have come, or ``flush`` is called.

    A call to a sqlite store takes about 40 ms however few the points: buffered, training does not
    wait for it. What the store does not take, because its server is down or its disk full, waits
    in ``outbox`` and is sent when it answers again, or when the run is taken up.

    Args:
        outbox: A file for it, or None: the store's errors are raised.
        kwargs: MLFlowLogger's.
    """

    def __init__(self, *, outbox: Path | None = None, **kwargs: Any) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        super().__init__(**kwargs)
        self.tracking_uri: str | None = kwargs.get("tracking_uri")
        self._outbox = None if outbox is None else Outbox(outbox)
        self._points: list[Metric] = []
        self._logged_at: dict[str, int] = {}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep points for the next flush; one per metric and step.

        MLflow's charts pair a metric with another on the x-axis point by point: a second value of
        ``flops`` at a step would shift all that follow.
        """
        now, at = int(time.time() * 1000), step or 0
        new = {name: value for name, value in metrics.items() if self._logged_at.get(name, -1) < at}
        self._points += [Metric(name, float(value), now, at) for name, value in new.items()]
        self._logged_at |= dict.fromkeys(new, at)
        if len(self._points) >= POINTS_PER_CALL:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write what waits."""
        while self._points:
            head = self._points[:POINTS_PER_CALL]
            points = [[point.key, point.value, point.timestamp, point.step] for point in head]
            self._deliver({"points": points})
            del self._points[: len(head)]

    @rank_zero_only
    def log_facts(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Parameters and tags, flattened values as strings; too long values are cut.

        The experiment is told to open at its runs: MLflow takes one for a chat's otherwise.
        """
        RACING(lambda: self.experiment)
        RACING(self.experiment.set_experiment_tag, self.experiment_id, *KIND_OF_EXPERIMENT)
        pairs = [Param(k, str(v)[:PARAM_LENGTH]) for k, v in params.items()]
        for begin in range(0, len(pairs), PARAMS_PER_CALL):
            chunk = pairs[begin : begin + PARAMS_PER_CALL]
            self.experiment.log_batch(self.run_id, params=chunk)
        self.experiment.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    @rank_zero_only
    def log_inputs(self, datasets: Sequence[DatasetInput]) -> None:
        """The data that the run learns from."""
        if datasets:
            RACING(self.experiment.log_inputs, self.run_id, list(datasets))

    @rank_zero_only
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts; it must stay where it is while the store is away."""
        self._deliver({"file": str(path), "folder": folder})

    @rank_zero_only
    def log_model(
        self, folder: Path, step: int, metrics: Mapping[str, float], register_as: str | None
    ) -> None:
        """Hand in a saved model (:func:`~agent_scaling.models.hand_in`); as ``log_file``."""
        self._deliver(
            {"model": str(folder), "step": step, "metrics": dict(metrics)}
            | {"register_as": register_as}
        )

    @rank_zero_only
    def take_up(self) -> None:
        """Go on with a run that was cut off: steps that it had logged are not logged again.

        Raises:
            MlflowException: The store does not answer.
        """
        client: Any = self.experiment
        self._send_waiting()
        for name in client.get_run(self.run_id).data.metrics:
            history = client.get_metric_history(self.run_id, name)
            self._logged_at[name] = max(point.step for point in history)
        self.set_status("RUNNING")

    @rank_zero_only
    def set_status(self, status: str) -> None:
        """``RUNNING``, or ``KILLED`` when preempted."""
        self._deliver({"status": status})

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Flush, then close the run as ``status`` says."""
        if not self._initialized:
            return
        self.flush()
        self._deliver({"status": "FINISHED" if status == "success" else "FAILED"}, last=True)

    def _deliver(self, entry: Entry, last: bool = False) -> None:
        """Send an entry after those that wait, or keep it; ``last``: ask the store in any case."""
        if self._outbox is None:
            self._send(entry)
            return
        if last or self._outbox.due:
            try:
                self._send_waiting()
                self._send(entry)
                return
            except (MlflowException, OSError) as error:
                if self._outbox.postpone():
                    say(
                        f"MLflow does not take what is logged ({error_line(error)}): it is kept "
                        f"in {self._outbox.path}, and sent when it does or with ckpt_path=last"
                    )
        self._outbox.keep(entry)

    def _send_waiting(self) -> None:
        """Send what waits; twice does no harm: the store keeps equal points once."""
        if self._outbox is None:
            return
        for entry in self._outbox.waiting():
            self._send(entry)
        if self._outbox.clear():
            say("MLflow has taken what had waited")

    def _send(self, entry: Entry) -> None:
        client: Any = self.experiment
        if "points" in entry:
            client.log_batch(self.run_id, metrics=[Metric(*point) for point in entry["points"]])
        elif "file" in entry:
            client.log_artifact(self.run_id, entry["file"], entry["folder"])
        elif "model" in entry:
            hand_in(client, str(self.run_id), entry)
        elif entry["status"] in ("FINISHED", "FAILED"):
            client.set_terminated(self.run_id, entry["status"])
        else:
            client.update_run(self.run_id, status=entry["status"])


class StoredRun:
    """A run of an MLflow store that files can be added to, whoever began it.

    Args:
        tracking_uri: The store.
        run_id: The run.

    Raises:
        InputError: There is no such run.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        database = tracking_uri.removeprefix("sqlite:///")
        if database != tracking_uri and not Path(database).exists():  # MLflow would make one
            raise InputError(f"tracking_uri={tracking_uri}: no such store; give the run's")
        self.run_id, self._client = run_id, MlflowClient(tracking_uri)
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


def log_metrics(trainer: Trainer, module: Counted, metrics: Mapping[str, float]) -> None:
    """Log at the module's frame, with the FLOPs beside, so that each curve has every axis."""
    flops = module.flops
    axes = {"flops": flops, "log10_flops": math.log10(flops)} if flops > 0 else {"flops": 0.0}
    named = [*module.spent.items(), *module.parts.items()]
    others = {f"flops_{name}": value for name, value in named}
    axes |= {name: value for name, value in others.items() if name != "flops_model"}
    for logger in trainer.loggers:
        logger.log_metrics({**metrics, **axes}, step=module.frames)


def log_file(trainer: Trainer, path: Path, folder: str | None = None) -> None:
    """Copy a file to the artifacts of every logger that keeps them."""
    for logger in trainer.loggers:
        if isinstance(logger, BufferedMLFlowLogger):
            logger.log_file(path, folder)
