"""Prints a plan: its cells, what they cost, and its warnings."""

from __future__ import annotations

from collections.abc import Callable

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from agent_scaling.config.command import typed_words
from agent_scaling.runtime.formats import short
from agent_scaling.runtime.terminal import plain_console, say
from agent_scaling.studies.display.warnings import REPEATED
from agent_scaling.studies.plan_file import Plan, Run

GRID = {"budgets", "sizes", "runs", "ratios", "convention"}
"""Keys that make a grid; a study that is named without any has a grid of ours."""


def show(made: Plan) -> None:
    """Print the cells, their totals and the warnings."""
    table = Table(title=f"{made.name}: cells", title_justify="left", box=SIMPLE)
    recorded = any(run.epoch_frames for run in made.runs)
    seen = ("frames", "frames/param.", "epochs") if recorded else ("interactions", "per parameter")
    hours = ("hours",) if made.speeds else ()
    columns = ("FLOPs", "parameters", *seen, *hours, "run")
    for column in columns:
        table.add_column(column, justify="left" if column == "run" else "right", no_wrap=True)
    cells = [(budget, run) for run in made.runs for budget in run.budgets]
    before = None
    for budget, run in sorted(cells, key=lambda c: (c[0], c[1].variant, c[1].params, c[1].seed)):
        if before not in (None, budget):
            table.add_section()
        before = budget
        table.add_row(*cell_row(made, run, budget))
    plain_console().print(table)
    say(f"{len(cells)} cells in {len(made.runs)} runs: {cost(made, lambda run: run.trained)}")
    if any(run.branched for run in made.runs):
        say(f"with runs=cells it would be {cost(made, lambda run: sum(run.budgets))}")
    if any(run.settings for run in made.runs):
        say("settings by the law of hyper=, for each run's last budget:")
        for run in made.runs:
            say(f"  {run.name}: {', '.join(f'{k}={v:g}' for k, v in run.settings.items())}")
    warn(made)


def summarise(made: Plan) -> None:
    """Print the grid in a line, and those warnings that are of what the user chose."""
    budgets = sorted({budget for run in made.runs for budget in run.budgets})
    sizes = sorted({run.params for run in made.runs})
    grid = (
        f"{len(sizes)} sizes from {short(sizes[0])} to {short(sizes[-1])}, {len(budgets)} budgets "
        f"from {budgets[0]:.3g} to {budgets[-1]:.3g} FLOPs"
        if len(made.runs) > 1
        else f"{sizes[0]:,} parameters, {budgets[-1]:.3g} FLOPs"
    )
    total = cost(made, lambda run: run.trained)
    say(f"{made.name}: {len(made.runs)} run{'s' * (len(made.runs) > 1)}, {grid}; {total}")
    warn(made, all_of_them=typed_grid())


def typed_grid() -> bool:
    """True where the grid is the user's own: its keys were typed, or no study was named."""
    words = typed_words()
    keys = {word.lstrip("+").partition("=")[0] for word in words or []}
    return words is None or "study" not in keys or bool(GRID & keys)


def warn(made: Plan, all_of_them: bool = True) -> None:
    """Print the plan's warnings: all, or those of the data alone."""
    for line in made.warnings:
        if all_of_them or REPEATED in line:
            warning = Text.assemble(("warning:", "yellow"), f" {line}")
            plain_console(soft_wrap=True).print(warning)


def cost(made: Plan, flops: Callable[[Run], float]) -> str:
    """Say what all runs cost; ``flops`` gives a run's FLOPs, in the plan's convention."""
    total = sum(run.flops(flops(run)) for run in made.runs)
    hours = [made.hours(run, flops(run)) or 0.0 for run in made.runs]
    time = f", {sum(hours):.3g} hours of one process" if made.speeds else ""
    return f"{total:.3g} FLOPs in all{time}"


def cell_row(made: Plan, run: Run, budget: float) -> list[str]:
    """A cell as the table shows it; hours are those since its run began."""
    frames, hours = run.frames(budget), made.hours(run, budget)
    epochs = [f"{frames / run.epoch_frames:.3g}"] if run.epoch_frames else []
    return [
        f"{budget:.3g}",
        short(run.params),
        f"{frames:,.0f}",
        f"{frames / run.params:.3g}",
        *epochs,
        *([] if hours is None else [f"{hours:.3g}"]),
        run.name,
    ]
