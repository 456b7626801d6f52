"""Warnings of a plan before anything is trained: one line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent_scaling.runtime.formats import compact, short
from agent_scaling.studies.plan_file import Run

PAPER = {"params": 133e6, "flops": 3.29e19, "exponent": 0.585}
"""The paper's NetHack law in 6ND: its optimum at its own forecast's budget, N_opt ∝ C^k."""
PAPER_RANGE = (1e15, 1e20)
REPETITIONS = 4.0
"""Epochs up to which repeated data is nearly as good as new (Muennighoff et al. 2023, §5)."""
REPEATED = "see their games"
"""Words by which the warning of repeated data is known."""
FEWEST_STEPS = 50
MARGIN = 3.0
"""Factor by which sizes must reach beyond a parabola's minimum on both sides."""


def cautions(
    runs: Sequence[Run], fitted: Mapping[str, Any] | None, epochs: float = REPETITIONS
) -> list[str]:
    """All warnings of a grid.

    Args:
        runs: Its runs.
        fitted: A ``fit.json`` whose law of sizes is known.
        epochs: Passes over the games above which a cell is warned of.
    """
    return [*bracketing(runs, fitted), *repetition(runs, epochs), *short_runs(runs)]


def bracketing(runs: Sequence[Run], fitted: Mapping[str, Any] | None) -> list[str]:
    """Budgets whose optimum the sizes do not enclose, by a fit, the paper's law or their extent."""
    budgets = sorted({budget for run in runs for budget in run.budgets})
    law = law_of(fitted) if fitted else None
    if law is not None:
        best: Callable[[Run, float], float] = lambda run, budget: law(budget)  # noqa: E731
        source = "by the fit given"
    elif all(run.epoch_frames for run in runs) and PAPER_RANGE[0] <= budgets[-1] <= PAPER_RANGE[1]:
        best, source = paper_size, "by the paper's law"
    else:
        return extent(runs, budgets)
    lines = []
    for budget in budgets:
        cells = sorted((r for r in runs if budget in r.budgets), key=lambda run: run.params)
        smallest, largest = cells[0], cells[-1]
        for end, beyond in (
            (smallest, best(smallest, budget) < smallest.params),
            (largest, best(largest, budget) > largest.params),
        ):
            if beyond:
                size = short(best(end, budget))
                lines.append(
                    f"{compact(budget, 3)} FLOPs: {source} the best size is {size}, beyond "
                    f"{short(end.params)}: no optimum within the grid"
                )
    return lines


def law_of(fitted: Mapping[str, Any]) -> Callable[[float], float] | None:
    """N_opt over the budget (FLOPs) as a fit has it: of loss before return, parabolas first."""
    laws = [
        fitted.get(form, {}).get(target) or {}
        for target in ("loss", "return")
        for form in ("parabola", "best_of_grid")
    ]
    for law in laws:
        found = law.get("N_opt")
        if found and found["exponent"] is not None:  # None: of one size, which says nothing
            intercept, slope = found["log_coefficient"], found["exponent"]
            return lambda budget: math.exp(intercept + slope * math.log(budget))
    return None


def paper_size(run: Run, budget: float) -> float:
    """The paper's best size for the frames' worth of 6ND that a cell trains."""
    flops = 6 * run.params * run.frames(budget)
    return float(PAPER["params"] * (flops / PAPER["flops"]) ** PAPER["exponent"])


def extent(runs: Sequence[Run], budgets: Sequence[float]) -> list[str]:
    """Without a law: whether the sizes span what the optimum moves by, with room on both sides."""
    sizes = [run.params for run in runs]
    span, moved = max(sizes) / min(sizes), (budgets[-1] / budgets[0]) ** 0.5
    if span >= moved * MARGIN**2:
        return []
    return [
        f"the sizes may not enclose the best ones: they span a factor of {span:.3g}. Budgets that "
        f"span a factor of {budgets[-1] / budgets[0]:.3g} move the best size by about {moved:.3g} "
        f"(C^0.5), and a parabola needs a factor of {MARGIN:g} more on both sides"
    ]


def repetition(runs: Sequence[Run], most: float) -> list[str]:
    """Cells that see their games more than ``most`` times."""
    seen = [
        (run.frames(budget) / run.epoch_frames, run.name, budget)
        for run in runs
        for budget in run.budgets
        if run.epoch_frames
    ]
    over = [cell for cell in seen if cell[0] > most]
    if not over:
        return []
    epochs, name, budget = max(over)
    return [
        f"{len(over)} of {len(seen)} cells {REPEATED} more than {most:g} times "
        f"(up to {epochs:.3g}: {name} at {compact(budget, 3)} FLOPs): record more, or expect a "
        "loss that laws of fresh data do not describe"
    ]


def short_runs(runs: Sequence[Run]) -> list[str]:
    """Cells of so few steps that the optimiser has hardly begun."""
    cells = [
        (run.frames(budget) / run.step_frames, run.name, budget)
        for run in runs
        for budget in run.budgets
    ]
    few = [cell for cell in cells if cell[0] < FEWEST_STEPS]
    if not few:
        return []
    steps, name, budget = min(few)
    return [
        f"{len(few)} of {len(cells)} cells have fewer than {FEWEST_STEPS} steps (down to "
        f"{steps:.2g}: {name} at {compact(budget, 3)} FLOPs): use smaller batches or larger budgets"
    ]
