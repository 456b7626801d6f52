"""Logs a fit as a run in MLflow: exponents as metrics, options as params, files as artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_scaling.tracking.store import KIND, find_experiment, open_or_make_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"
"""The tag whose text MLflow shows as a run's description."""

EXPERIMENT = "fits"
"""MLflow experiment of fits whose runs came from a CSV, by default."""


def log_fit(
    fitted: Mapping[str, Any],
    files: Sequence[Path],
    tracking_uri: str,
    params: Mapping[str, Any],
    experiment_ids: Sequence[str] = (),
    description: str = "",
) -> str:
    """Log ``fitted`` and ``files``; return the run's id.

    ``description`` is the Markdown at the head of the run's page.

    The run's experiment is the first of ``experiment_ids``, those of the fitted runs; else the one
    that the origin names, else :data:`EXPERIMENT`. Its tag ``study`` is that of the fitted runs.
    """
    from mlflow.entities import Metric, Param

    client: MlflowClient = open_or_make_store(tracking_uri)
    about = {key: value for key, value in fitted["origin"].items() if value is not None}
    tags = {KIND: "fit", "mlflow.runName": run_name(about)}
    tags |= {NOTE: description} if description else {}
    tags |= {f"fit.{key}": str(value) for key, value in about.items()}
    tags |= {"study": str(about["study"])} if "study" in about else {}
    named = str(about.get("experiment", EXPERIMENT))
    experiment = experiment_ids[0] if experiment_ids else _experiment(client, tracking_uri, named)
    run_id: str = client.create_run(experiment, tags=tags).info.run_id
    values = metrics(fitted)
    entities = [Metric(key, value, 0, 0) for key, value in values.items()]
    pairs = [Param(key, str(value)[:6000]) for key, value in params.items()]
    client.log_batch(run_id, metrics=entities, params=pairs)
    for path in files:
        folder = "figures" if path.suffix in (".png", ".svg") else None
        client.log_artifact(run_id, str(path), folder)
    client.set_terminated(run_id)
    return run_id


def run_name(origin: Mapping[str, Any]) -> str:
    """Return ``fit``, then the study (else the experiment, else the CSV) and the game."""
    parts = [origin.get("study") or origin.get("experiment"), origin.get("game")]
    path = origin.get("path")
    if path and not any(parts):
        parts = [Path(path if isinstance(path, str) else path[0]).stem]
    return " ".join(["fit", *(str(part) for part in parts if part)])


def metrics(fitted: Mapping[str, Any]) -> dict[str, float]:
    """Collect a fit's finite numbers by metric name: exponents, laws, forms' errors, forecast."""
    found: dict[str, Any] = {}
    for form in ("best_of_grid", "parabola"):
        for target, law in fitted[form].items():
            found |= {
                f"{form}/{target}/{name}": law[name]["exponent"]
                for name in ("N_opt", "D_opt", "optimum")
                if law[name]
            }
    for form in ("saturating", "saturating_weighted"):
        for target, law in fitted[form].items():
            found |= {
                f"{form}/{target}/{k}": law[k] for k in ("L_inf", "R_max", "gamma") if k in law
            }
    if law := fitted.get("parametric"):
        found |= {f"parametric/{k}": law[k] for k in ("E", "alpha", "beta", "N_opt", "D_opt")}
    if law := fitted.get("return_from_loss"):
        found["return_from_loss"] = law["exponent"]
    for target, checks in fitted["validation"].items():
        found |= {f"error/{target}/{n}": c["mean_abs_log_error"] for n, c in checks.items()}
    for row in fitted["forecast"]:
        place = f"forecast/{row['flops']:.3g}".replace("+", "")
        found |= {
            f"{place}/{k}": row[k] for k in ("params", "frames", "loss", "return") if k in row
        }
    found["flags"] = len(fitted["flags"])
    finite = {k: float(v) for k, v in found.items() if v is not None}
    return {k: v for k, v in finite.items() if abs(v) < float("inf")}


def _experiment(client: MlflowClient, tracking_uri: str, name: str) -> str:
    scheme, _, database = tracking_uri.partition(":///")
    # Artifacts lie beside a local store, as those of runs do; MLflow's default is the working
    # directory.
    beside = str(Path(database).resolve().parent / "mlartifacts") if scheme == "sqlite" else None
    return find_experiment(client, name, beside)
