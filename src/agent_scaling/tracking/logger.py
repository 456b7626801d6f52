"""MLflow as the record: a logger that buffers, and what every run says of itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import mlflow
from lightning import Trainer
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric

from agent_scaling.policies.flops import Convention
from agent_scaling.runtime.errors import error_line
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.new_store import prepare
from agent_scaling.tracking.outbox import Entry, Outbox
from agent_scaling.tracking.run import STORE_ERRORS, TrackedRun, begin_entry, is_away, now

POINTS_PER_CALL = 1000  # MLflow's limit for one log_batch
OUTBOX_FILE = "mlflow_waiting.jsonl"
"""Beside it: what the store has not taken yet."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Unless the user sets them: MLflow's own would hold training up for minutes."""


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
    in ``outbox`` and is sent when it answers again, or when the run is taken up; the run itself is
    begun then, if the store has been away from the start.

    Args:
        experiment_name: The experiment.
        tracking_uri: The store.
        artifact_location: Of an experiment that is new.
        run_name: Of a run that is begun.
        run_id: A run to go on with, see :meth:`take_up`.
        outbox: A file for what waits, or None: the store's errors are raised.
        remember: A file for the id of a run that is begun.
    """

    def __init__(
        self,
        *,
        experiment_name: str,
        tracking_uri: str,
        artifact_location: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        outbox: Path | None = None,
        remember: Path | None = None,
    ) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        prepare(tracking_uri)
        super().__init__(experiment_name=experiment_name, tracking_uri=tracking_uri, run_id=run_id)
        mlflow.set_tracking_uri(tracking_uri)
        self.tracking_uri, self.run_name = tracking_uri, run_name
        where = (experiment_name, artifact_location, run_id, remember)
        self._run = TrackedRun(self.experiment, *where)
        self._outbox = None if outbox is None else Outbox(outbox)
        self._points: list[Metric] = []
        self._logged_at: dict[str, int] = {}

    @property
    def experiment(self) -> MlflowClient:
        """MLflow's client. Lightning's begins a run here, and asks for it as ``fit`` begins, when
        the store may be away."""
        return self._mlflow_client

    @property
    def run_id(self) -> str | None:
        """None until the store has begun the run."""
        return self._run.id

    @property
    def experiment_id(self) -> str | None:
        """None until the store has told."""
        return self._run.experiment_id

    @property
    def begun(self) -> bool:
        """Whether an earlier process has begun this run, in the store or in the outbox."""
        waiting = self._outbox.waiting() if self._outbox else ()
        return self.run_id is not None or any("begin" in entry for entry in waiting)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep points for the next flush; one per metric and step.

        MLflow's charts pair a metric with another on the x-axis point by point: a second value of
        ``flops`` at a step would shift all that follow.
        """
        time, at = now(), step or 0
        new = {name: value for name, value in metrics.items() if self._logged_at.get(name, -1) < at}
        self._points += [Metric(name, float(value), time, at) for name, value in new.items()]
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
    def begin(
        self,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        inputs: Sequence[DatasetInput] = (),
    ) -> None:
        """Begin a run, or note that it has begun where the store is away.

        Args:
            params: Flattened values; too long ones are cut.
            tags: As well.
            inputs: The data that the run learns from.

        Raises:
            MlflowException, SQLAlchemyError: The store will not take it at another time, either.
        """
        entry = begin_entry(self.run_name, params or {}, tags or {}, inputs)
        if self._outbox is None:
            self._run.send(entry)
            return
        self._outbox.keep(entry)  # until all of it is sent: a kill leaves no run without parameters
        self._reach(self._send_waiting)

    @rank_zero_only
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts; it must stay where it is while the store is away."""
        self._deliver({"file": str(path), "folder": folder})

    @rank_zero_only
    def log_model(
        self, folder: Path, step: int, metrics: Mapping[str, float], register_as: str | None
    ) -> None:
        """Hand in a saved model, as :func:`~agent_scaling.tracking.registry.hand_in` does."""
        self._deliver(
            {"model": str(folder), "step": step, "metrics": dict(metrics)}
            | {"register_as": register_as}
        )

    @rank_zero_only
    def take_up(self) -> None:
        """Go on with a run that was cut off: steps that it had logged are not logged again.

        Where the store is away, it is asked later which those are; what waits is known now.

        Raises:
            MlflowException, SQLAlchemyError: The store is there, but does not know the run.
        """
        for entry in self._outbox.waiting() if self._outbox else ():
            self._logged_at |= {name: step for name, _, _, step in entry.get("points", ())}
        self._reach(self._run.find)
        if self._outbox is None or self._outbox.due:
            self._reach(self._send_waiting)
        self._logged_at |= {
            k: max(v, self._logged_at.get(k, v)) for k, v in self._run.last_steps.items()
        }
        self.set_status("RUNNING")

    @rank_zero_only
    def set_status(self, status: str) -> None:
        """``RUNNING``, or ``KILLED`` when preempted."""
        self._deliver({"status": status, "at": now()})

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Flush, then close the run as ``status`` says."""
        self.flush()
        ended = "FINISHED" if status == "success" else "FAILED"
        self._deliver({"status": ended, "at": now()}, last=True)

    def _deliver(self, entry: Entry, last: bool = False) -> None:
        """Send an entry after those that wait, or keep it; ``last``: ask the store in any case."""
        if self._outbox is None:
            self._run.send(entry)
            return
        if last or self._outbox.due:
            try:
                self._send_waiting()
                self._run.send(entry)
                return
            except STORE_ERRORS as error:
                self._postpone(self._outbox, error)
        self._outbox.keep(entry)

    def _reach(self, ask: Callable[[], None]) -> None:
        """Ask the store as the run begins; raises what will not be better at another time."""
        try:
            ask()
        except STORE_ERRORS as error:
            if self._outbox is None or not is_away(error):
                raise
            self._postpone(self._outbox, error)

    def _postpone(self, outbox: Outbox, error: Exception) -> None:
        if outbox.postpone():
            say(
                f"MLflow does not take what is logged ({error_line(error)}): it is kept "
                f"in {outbox.path}, and sent when it does or with ckpt_path=last"
            )

    def _send_waiting(self) -> None:
        """Send what waits; twice does no harm: the store keeps equal points once."""
        if self._outbox is None:
            return
        for entry in self._outbox.waiting():
            self._run.send(entry)
        if self._outbox.clear():
            say("MLflow has taken what had waited")


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
