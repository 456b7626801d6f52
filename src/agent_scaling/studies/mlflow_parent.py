"""The MLflow run that stands for a whole study; its training runs are its children."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_scaling.config.command import command, setting
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.terminal import say
from agent_scaling.scaling.runs.fit_run import NOTE
from agent_scaling.studies.plan_file import FILE, Plan, Store
from agent_scaling.tracking.store import find_experiment, open_or_make_store, store_errors

REMEMBERED = "mlflow_run_id"


UNCLOSED = ".mlflow_run_unclosed"
"""In a plan's folder: the status that its run has to get when the store is back."""


def check_store(store: Store) -> None:
    """Ask a store whether it has the experiment, before anything is written or trained.

    Raises:
        InputError: It is away, or cannot be used.
    """
    with store_errors(store.tracking_uri):
        client = open_or_make_store(store.tracking_uri)
        client.get_experiment_by_name(store.experiment_name)


@contextmanager
def store_of(plan: Plan) -> Iterator[Any]:
    """Yield a client of the plan's store; its errors are one line (:class:`InputError`)."""
    with store_errors(plan.store.tracking_uri):
        yield open_or_make_store(plan.store.tracking_uri)


def open_parent(plan: Plan, folder: Path) -> str:
    """The id of the parent run, which is made at the first call and taken up at later ones.

    Raises:
        InputError: The store is away, or cannot be used.
    """
    with store_of(plan) as client:
        remembered = folder / REMEMBERED
        if remembered.exists():
            run_id = remembered.read_text()
            client.update_run(run_id, status="RUNNING")
        else:
            run_id = _create(plan, folder, client)
            write_file(remembered, run_id)
        client.log_artifact(run_id, str(folder / FILE))
        return run_id


def _create(plan: Plan, folder: Path, client: Any) -> str:
    """Create the parent run and return its id."""
    experiment_id = find_experiment(
        client, plan.store.experiment_name, plan.store.artifact_location
    )
    tags = {
        "study": plan.name,
        "game": plan.store.experiment_name,
        "kind": "study",  # its fit leaves it out
        NOTE: description(plan, folder),
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"{plan.name} (study)")
    return str(run.info.run_id)


def description(plan: Plan, folder: Path) -> str:
    """Markdown for the run's page: what is trained, and the command to go on."""
    budgets = sorted({budget for run in plan.runs for budget in run.budgets})
    sizes = sorted({run.params for run in plan.runs})
    lines = [
        f"- {len(plan.runs)} runs, {len(budgets)} budgets: "
        + ", ".join(f"{budget:.3g}" for budget in budgets)
        + f" FLOPs ({plan.convention})",
        "- parameters: " + ", ".join(f"{size:,}" for size in sizes),
        f"- go on: `{command('sweep', setting('plan', folder))}`",
    ]
    return "\n".join(lines)


def describe(plan: Plan, folder: Path, verdict: str) -> None:
    """Begin the description of the parent run with what the study has found."""
    run_id = (folder / REMEMBERED).read_text()
    with store_of(plan) as client:
        client.set_tag(run_id, NOTE, f"{verdict}\n\n{description(plan, folder)}")


def close_parent(plan: Plan, folder: Path, status: str) -> None:
    """Close it as ``FINISHED``, ``FAILED`` or ``KILLED``; while the store is away, say so.

    A later sweep then closes it (:func:`close_late`).
    """
    run_id, late = (folder / REMEMBERED).read_text(), folder / UNCLOSED
    try:
        with store_of(plan) as client:
            client.set_terminated(run_id, status)
    except InputError as error:
        write_file(late, status)
        say(f"{error}; the study's run there stays open until sweep is run again")
    else:
        late.unlink(missing_ok=True)


def close_late(plan: Plan, folder: Path) -> None:
    """Close the run of a sweep that ended while the store was away."""
    late = folder / UNCLOSED
    if late.exists():
        close_parent(plan, folder, late.read_text())


def log_results(
    plan: Plan,
    folder: Path,
    metrics: Mapping[str, float],
    files: Sequence[Path],
    variant: str | None = None,
) -> None:
    """Numbers and files of the study on its parent run, those of a variant in its own folder.

    Values that the run has already are not logged again, so that a repeated study adds no points;
    nor are unbounded values.
    """
    run_id = (folder / REMEMBERED).read_text()
    with store_of(plan) as client:
        known = client.get_run(run_id).data.metrics
        for name, value in metrics.items():
            if known.get(name) != value and math.isfinite(value):
                client.log_metric(run_id, name, value)
        for path in files:
            client.log_artifact(run_id, str(path), variant)
