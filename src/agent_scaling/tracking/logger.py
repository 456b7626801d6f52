"""The MLflow logger: buffers metrics, and keeps them while the store is away."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import mlflow
from lightning import Trainer
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric

from agent_scaling.policies.flops import Convention
from agent_scaling.runtime.errors import error_line
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.new_store import prepare
from agent_scaling.tracking.outbox import Entry, Outbox
from agent_scaling.tracking.run import STORE_ERRORS, TrackedRun, begin_entry, is_away, now
from agent_scaling.tracking.store import be_patient, store_errors, without_driver

POINTS_PER_CALL = 1000  # MLflow's limit for one log_batch
LONGEST_WAIT_S = 30.0
"""Seconds after which the next points are sent, so that somebody may watch the run."""
OUTBOX_FILE = "mlflow_waiting.jsonl"
"""In a run's output folder: entries that the store has not taken yet."""

LOCKED = "database is locked"
"""sqlite's error text while another process writes."""


class LaterClient(MlflowClient):
    """MLflow client of a store that could not be opened yet; each use tries to."""

    def __init__(self, tracking_uri: str) -> None:
        self._later = tracking_uri

    def __getattr__(self, name: str) -> object:
        """Open the store, which gives the client its attributes."""
        super().__init__(self._later)
        return object.__getattribute__(self, name)


class Counted(Protocol):
    """A module that counts the frames and FLOPs of its training."""

    frames: int
    """Frames trained on so far, all ranks."""
    step_frames: int
    """Frames that the last step added."""
    flops_per_frame: float
    """FLOPs of the next frame, ``model`` convention."""

    @property
    def spent(self) -> Mapping[Convention, float]:
        """FLOPs so far, by convention."""

    @property
    def parts(self) -> Mapping[str, float]:
        """FLOPs so far by kind of work, ``model`` convention."""

    @property
    def flops(self) -> float:
        """FLOPs so far, ``model`` convention."""


class BufferedMLFlowLogger(MLFlowLogger):
    """MLFlowLogger that sends metrics a thousand at a time, every half minute, or at ``flush``.

    A call to a sqlite store takes about 40 ms for any number of points, so buffering spares
    training the wait. Entries that the store does not take, because its server is down or its disk
    is full, wait in ``outbox``. They are sent when the store answers again, or when the run is
    resumed. If the store is away from the start, the run is created then.

    Args:
        experiment_name: The experiment.
        tracking_uri: The store.
        artifact_location: Where a new experiment keeps artifacts.
        run_name: Name of a new run.
        run_id: A run to continue, see :meth:`take_up`.
        outbox: A file for entries that wait; None raises the store's errors instead.
        remember: A file that receives the id of a new run.
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
        be_patient()
        prepare(tracking_uri)
        try:
            super().__init__(
                experiment_name=experiment_name, tracking_uri=tracking_uri, run_id=run_id
            )
        except ImportError as error:
            raise without_driver(tracking_uri, error) from error
        except STORE_ERRORS as error:
            if outbox is None or LOCKED not in str(error):
                with store_errors(tracking_uri):
                    raise
            self._mlflow_client = LaterClient(tracking_uri)  # Lightning opens it last of all
        mlflow.set_tracking_uri(tracking_uri)
        self.tracking_uri, self.run_name = tracking_uri, run_name
        where = (experiment_name, artifact_location, run_id, remember)
        self._run = TrackedRun(self.experiment, *where)
        self._outbox = None if outbox is None else Outbox(outbox)
        self._points: list[Metric] = []
        self._logged_at: dict[str, int] = {}
        self._sent_at = monotonic()

    @property
    def experiment(self) -> MlflowClient:
        """MLflow's client; Lightning's logger would create the run here as ``fit`` begins, when
        the store may be away."""
        return self._mlflow_client

    @property
    def run_id(self) -> str | None:
        """The run's id, or None until the store has created the run."""
        return self._run.id

    @property
    def experiment_id(self) -> str | None:
        """The experiment's id, or None until the store has answered."""
        return self._run.experiment_id

    @property
    def begun(self) -> bool:
        """True where an earlier process has begun this run, in the store or in the outbox."""
        waiting = self._outbox.waiting() if self._outbox else ()
        return self.run_id is not None or any("begin" in entry for entry in waiting)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep points for the next flush, one per metric and step.

        MLflow's charts pair the points of two metrics by their order, so a second value of
        ``flops`` at a step would shift all later pairs.
        """
        time, at = now(), step or 0
        new = {name: value for name, value in metrics.items() if self._logged_at.get(name, -1) < at}
        self._points += [Metric(name, float(value), time, at) for name, value in new.items()]
        self._logged_at |= dict.fromkeys(new, at)
        full = len(self._points) >= POINTS_PER_CALL
        if full or monotonic() - self._sent_at >= LONGEST_WAIT_S:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Send the buffered points to the store, or to the outbox."""
        self._sent_at = monotonic()
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
        """Begin a run; where the store is away, put that into the outbox.

        Args:
            params: Flattened values; too long ones are cut.
            tags: Tags by name; too long values are cut.
            inputs: The data that the run learns from.

        Raises:
            MlflowException, SQLAlchemyError: The store refuses the run for good.
        """
        entry = begin_entry(self.run_name, params or {}, tags or {}, inputs)
        if self._outbox is None:
            self._run.send(entry)
            return
        self._outbox.keep(entry)  # a kill now leaves no run without parameters
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
        """Continue an interrupted run; steps that it has logged are not logged again.

        Where the store is away, it is asked for those steps later; the outbox is read now.

        Raises:
            MlflowException, SQLAlchemyError: The store answers, but does not have the run.
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
    def describe(self, tags: Mapping[str, str]) -> None:
        """Give the run the name and ``tags`` of its present settings, which replace older ones."""
        said = {name: mask(value) for name, value in tags.items()}
        self._deliver({"tags": said, "name": self.run_name})

    @rank_zero_only
    def set_status(self, status: str) -> None:
        """Set the run's status: ``RUNNING``, or ``KILLED`` after preemption."""
        self._deliver({"status": status, "at": now()})

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Flush, then close the run with ``status``."""
        self.flush()
        ended = "FINISHED" if status == "success" else "FAILED"
        self._deliver({"status": ended, "at": now()}, last=True)

    def _deliver(self, entry: Entry, last: bool = False) -> None:
        """Send an entry after those that wait, or keep it; ``last`` asks the store in any case."""
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
        """Ask the store as the run begins; raise the errors that would recur."""
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
        """Send the waiting entries; a repeat is harmless, as the store keeps equal points once."""
        if self._outbox is None:
            return
        for entry in self._outbox.waiting():
            self._run.send(entry)
        if self._outbox.clear():
            say("MLflow has taken what had waited")


def log_metrics(trainer: Trainer, module: Counted, metrics: Mapping[str, float]) -> None:
    """Log at the module's frame, together with FLOPs, so that curves can be drawn over either."""
    flops = module.flops
    axes = {"flops": flops, "log10_flops": math.log10(flops)} if flops > 0 else {"flops": 0.0}
    named = [*module.spent.items(), *module.parts.items()]
    others = {f"flops_{name}": value for name, value in named}
    axes |= {name: value for name, value in others.items() if name != "flops_model"}
    for logger in trainer.loggers:
        logger.log_metrics({**metrics, **axes}, step=module.frames)


def log_file(trainer: Trainer, path: Path, folder: str | None = None) -> None:
    """Copy a file to the artifacts of every logger that has artifacts."""
    for logger in trainer.loggers:
        if isinstance(logger, BufferedMLFlowLogger):
            logger.log_file(path, folder)
