"""Learning curves of runs in an MLflow store: return over frames and FLOPs, with intervals.

    python benchmarks/curves.py RUN[=LABEL] … [--store sqlite:///mlflow.db] [--figure curves.png]
        [--reference LABEL=episodes.parquet …] [--loss] [--panels frames flops]

A run is its id or its name (the latest of that name). Points are the mean returns of its rollouts,
the same seeds each time; bars are 90 % bootstrap intervals over episodes. References are tables of
``agent-scaling rollout``, drawn as bands; ``--loss`` adds the held-out loss on demonstrations.
Differences from the first reference have 95 % bootstrap intervals. The last line is one JSON
object: each run's last ``return`` and, where there is a reference, the ``difference`` from it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

from agent_scaling.playing.rollouts.tables import RESAMPLES, describe
from agent_scaling.runtime.errors import InputError

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]  # of the Okabe–Ito palette
GREYS = ["#000000", "#777777"]
LABELS = {"frames": "frames", "flops": "training FLOPs"}

Points = pd.DataFrame


class Curve(NamedTuple):
    """A run as it is drawn."""

    label: str
    rollouts: dict[int, npt.NDArray[np.float64]]
    """Frames → returns of the episodes."""
    training: Points
    """``frames``, ``flops``, and ``val/nats`` where it was measured."""

    def flops(self, frames: int) -> float:
        """At so many frames of training."""
        return float(self.training.set_index("frames")["flops"][frames])


def read_curve(client: MlflowClient, run: str, label: str) -> Curve:
    """A run's tables of episodes and metrics.

    Raises:
        InputError: There is no such run, or it has not played.
    """
    found = find_run(client, run)
    series = {
        name: {point.step: point.value for point in client.get_metric_history(found, name)}
        for name in ("flops", "val/nats")
    }
    training = pd.DataFrame(series).rename_axis("frames").sort_index().reset_index()
    with tempfile.TemporaryDirectory() as folder:
        client.download_artifacts(found, "rollouts", folder)
        tables = sorted(Path(folder).glob("rollouts/*.parquet"), key=lambda path: int(path.stem))
        returns = {int(path.stem): returns_of(path) for path in tables}
    return Curve(label, returns, training)


def find_run(client: MlflowClient, run: str) -> str:
    """The id of a run that is given by it or by its name."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for key in ("run_id", "run_name"):
        if runs := client.search_runs(experiments, f"attributes.{key} = '{run}'"):
            return str(runs[0].info.run_id)
    raise InputError(f"{run}: no run has this id or name; give another --store, or see mlflow ui")


def returns_of(path: Path) -> npt.NDArray[np.float64]:
    """[episodes] of a table of ``agent-scaling rollout``."""
    return pd.read_parquet(path)["return"].dropna().to_numpy(np.float64)


def difference(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]
) -> tuple[float, list[float]]:
    """Of the means, and its 95 % bootstrap interval."""
    draw = np.random.default_rng(0).choice
    means = [draw(x, (RESAMPLES, len(x))).mean(axis=1) for x in (ours, theirs)]
    interval = np.quantile(means[0] - means[1], [0.025, 0.975]).tolist()
    return float(ours.mean() - theirs.mean()), interval


def draw_returns(axes: Any, curves: list[Curve], references: dict[str, Any], over: str) -> None:
    """Return over ``frames`` or ``flops``."""
    for (label, returns), colour in zip(references.items(), GREYS, strict=False):
        low, high = describe(returns)["interval"]  # type: ignore[misc]
        axes.axhspan(low, high, color=colour, alpha=0.15, lw=0)
        axes.axhline(returns.mean(), color=colour, ls="--", lw=1, label=label)
    for curve, colour in zip(curves, COLOURS, strict=False):
        x = [f if over == "frames" else curve.flops(f) for f in curve.rollouts]
        mean = np.array([returns.mean() for returns in curve.rollouts.values()])
        ends = np.array([describe(returns)["interval"] for returns in curve.rollouts.values()]).T
        axes.errorbar(x, mean, abs(ends - mean), fmt="o-", ms=4, color=colour, label=curve.label)
    axes.set(xlabel=LABELS[over], ylabel="return")


def draw_losses(axes: Any, curves: list[Curve]) -> None:
    """Held-out loss on demonstrations over frames."""
    for curve, colour in zip(curves, COLOURS, strict=False):
        known = curve.training.dropna(subset="val/nats")
        axes.plot(known["frames"], known["val/nats"], "o-", ms=4, color=colour, label=curve.label)
    axes.set(xlabel=LABELS["frames"], ylabel="held-out loss (nats per action)")


def draw(
    curves: list[Curve], references: dict[str, Any], panels: list[str], loss: bool, path: Path
) -> None:
    """A figure with a panel for each axis, and one of the loss."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, MaxNLocator

    count = len(panels) + loss
    figure, axes = plt.subplots(1, count, figsize=(4.6 * count, 3.6), layout="constrained")
    flat = np.atleast_1d(axes)
    for panel, over in zip(flat, panels, strict=False):
        draw_returns(panel, curves, references, over)
    if loss:
        draw_losses(flat[-1], curves)
    for panel in flat:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(6))
        if panel.get_xlabel() == LABELS["frames"]:
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.legend(
        *flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def report(curves: list[Curve], references: dict[str, Any]) -> dict[str, Any]:
    """Print a row per rollout; each run's last one."""
    heads = ("run", "frames", "FLOPs", "episodes", "median", "mean", "90 %", "difference", "95 %")
    table = Table(*heads)
    first = next(iter(references.values()), None)
    found: dict[str, Any] = {}
    for label, returns in references.items():
        table.add_row(label, "", "", *summary(returns))
    for curve in curves:
        for frames, returns in curve.rollouts.items():
            row = [curve.label, f"{frames:,}", f"{curve.flops(frames):.2e}", *summary(returns)]
            found[curve.label] = {"return": float(returns.mean())}
            if first is not None:
                gain, interval = difference(returns, first)
                row += [f"{gain:+.2f}", span(interval)]
                found[curve.label] |= {"difference": gain, "interval": interval}
            table.add_row(*row)
    Console(width=120).print(table)
    return found


def summary(returns: npt.NDArray[np.float64]) -> list[str]:
    """Number, median, mean and its interval."""
    middle = f"{np.median(returns):.2f}", f"{returns.mean():.2f}"
    return [str(len(returns)), *middle, span(describe(returns)["interval"])]


def span(interval: Any) -> str:
    """``1.2 to 3.4``."""
    return "{:.2f} to {:.2f}".format(*interval)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN[=LABEL]")
    parser.add_argument("--store", default="sqlite:///mlflow.db")
    parser.add_argument("--reference", nargs="+", default=[], metavar="LABEL=TABLE")
    parser.add_argument("--panels", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--loss", action="store_true", help="add a panel of the held-out loss")
    parser.add_argument("--figure", type=Path, default=Path("curves.png"))
    options = parser.parse_args()
    pairs = [item.partition("=")[::2] for item in options.reference]
    references = {label: returns_of(Path(table)) for label, table in pairs}
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    client = MlflowClient(options.store)
    named = [item.partition("=")[::2] for item in options.runs]
    curves = [read_curve(client, run, label or run) for run, label in named]
    draw(curves, references, options.panels, options.loss, options.figure)
    print(json.dumps(report(curves, references)))


if __name__ == "__main__":
    main()
