"""Variants of a study beside each other: best losses and compute multipliers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.formats import compact, short
from agent_scaling.runtime.terminal import plain_console
from agent_scaling.scaling.multiplier import Multiplier, multipliers, table
from agent_scaling.studies.mlflow_parent import log_results
from agent_scaling.studies.plan_file import Plan

UNITS = {"flops": "FLOPs", "cpu_seconds": "CPU-seconds"}
"""Units of the comparison: column of the cells → its name."""


def compare_variants(made: Plan, cells: pd.DataFrame, folder: Path) -> None:
    """Print, draw and keep how the variants compare; the first one is the reference.

    ``folder/fit/multiplier_<unit>.csv`` and ``variants_<unit>.png`` hold it, and the study's MLflow
    run.
    """
    show_variants(cells)
    if bool(cells["eval_loss"].isna().all()):
        return
    from agent_scaling.scaling.report.variants import draw_variants  # it imports matplotlib

    metrics: dict[str, float] = {}
    files: list[Path] = []
    for cost, name in UNITS.items():
        if not (cells[cost] > 0).any() or not (found := multipliers(cells, reference(cells), cost)):
            continue
        show_multipliers(found, reference(cells), name)
        path = folder / "fit" / f"multiplier_{cost}.csv"
        write_file(path, table(found).to_csv(index=False))
        drawn = draw_variants(cells, cost, folder / "fit" / f"variants_{cost}.png")
        files += [path, drawn]
        for one in found:
            key = f"multiplier/{cost}/{one.variant}/{compact(one.flops)}"
            metrics |= {key: one.multiplier, f"{key}_low": one.low}
    if files:
        log_results(made, folder / "grid", metrics, files)


def reference(cells: pd.DataFrame) -> str:
    """The variant that the others are compared with: the study's first."""
    return str(cells["variant"].iloc[0])


def show_multipliers(found: list[Multiplier], against: str, unit: str) -> None:
    """Print the multipliers of each variant, with their 90 % intervals."""
    title = f"{unit} that {against} needs for the same loss, over those of the variant"
    shown = Table(title=title, title_justify="left", box=SIMPLE)
    for column in ("budget", "variant", "nats", f"its {unit}", "multiplier", "90 % interval", ""):
        shown.add_column(column, justify="right")
    for one in found:
        high = "∞" if one.high is None else f"{one.high:.3g}"
        shown.add_row(
            compact(one.flops),
            one.variant,
            f"{one.loss:.3f}",
            f"{one.spent:.3g}",
            f"{one.multiplier:.3g} ×",
            f"{one.low:.3g} … {high}",
            "extrapolated" if one.extrapolated else "",
        )
    plain_console().print(shown)


def show_variants(cells: pd.DataFrame) -> None:
    """Print each variant's loss at each budget, or its return where there is no loss.

    Both are of the variant's best size, with seeds averaged.
    """
    played = bool(cells["eval_loss"].isna().all())
    what, name = ("mean return", "return_mean") if played else ("held-out nats", "eval_loss")
    means = cells.groupby(["flops", "params", "variant"])[name].mean().reset_index()
    means = means.dropna().sort_values(name, ascending=not played)
    best = means.drop_duplicates(["flops", "variant"])
    title = f"{what} at each variant's best size"
    shown = Table(title=title, title_justify="left", box=SIMPLE)
    variants = list(dict.fromkeys(cells["variant"]))
    for column in ("FLOPs", *variants, "best"):
        shown.add_column(column, justify="right")
    for flops, group in best.groupby("flops"):
        of = {row["variant"]: row for row in group.to_dict("records")}
        row = [
            f"{of[v][name]:.3f} ({short(of[v]['params'])})" if v in of else "not run"
            for v in variants
        ]
        shown.add_row(f"{flops:.3g}", *row, next(iter(of)))
    plain_console().print(shown)
