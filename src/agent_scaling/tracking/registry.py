"""Logs and registers models in an MLflow store; a repeated attempt adds nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "model"
"""Name of a model in its run; ``runs:/<run id>/model`` is the run's latest."""
STEP = "frames"
VERSIONS = "mlflow.modelVersions"
"""Tag from which the model's page reads its registered versions."""


def hand_in(client: MlflowClient, run_id: str, entry: dict[str, Any]) -> None:
    """Log the model in ``entry["model"]``, a folder, as an output of a run at ``entry["step"]``.

    A model that an earlier attempt has handed in is left alone; one that it has begun is finished.

    Args:
        client: An MlflowClient.
        run_id: The run.
        entry: An entry of the outbox; ``metrics`` are shown beside the model, ``register_as`` is a
            name in the store's registry, or None.
    """
    run, step = client.get_run(run_id), int(entry["step"])
    experiment = run.info.experiment_id
    where = f"source_run_id = '{run_id}' AND tags.`{STEP}` = '{step}'"
    known = client.search_logged_models([experiment], filter_string=where)
    model = (
        known[0]
        if known
        else client.create_logged_model(
            experiment,
            name=NAME,
            source_run_id=run_id,
            tags={STEP: str(step)},
            params=run.data.params,
        )
    )
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, entry["model"])
        now, of = int(time.time() * 1000), {"model_id": model.model_id, "run_id": run_id}
        points = [Metric(name, value, now, step, **of) for name, value in entry["metrics"].items()]
        client.log_batch(run_id, metrics=points)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    if entry["register_as"]:
        register(client, run_id, model.model_id, entry["register_as"])


def register(client: MlflowClient, run_id: str, model_id: str, name: str) -> None:
    """Make a model the newest version of ``name`` in the registry, unless it is one already."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    source = f"models:/{model_id}"
    if source not in {known.source for known in client.search_model_versions(f"name = '{name}'")}:
        made = client.create_model_version(name, source, run_id, model_id=model_id)
        version = [{"name": name, "version": made.version}]
        client.set_logged_model_tags(model_id, {VERSIONS: json.dumps(version)})
