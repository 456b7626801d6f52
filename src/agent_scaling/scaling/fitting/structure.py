"""Detects tables without isoFLOP profiles, whose best cells are not optima; uses the law there."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting import select
from agent_scaling.scaling.fitting.forms import fitted_law
from agent_scaling.scaling.fitting.recency import origins
from agent_scaling.scaling.fitting.select import PRIOR, Validation
from agent_scaling.scaling.intervals import half_width
from agent_scaling.scaling.laws import parametric
from agent_scaling.scaling.laws.profiles import count_sizes

HALF, MOST = 0.5, 0.75
"""Least share of cells, in an isoFLOP table, at budgets of three sizes, or else of two."""

BUDGETS = 3
"""Fewest such budgets of an isoFLOP table."""


def layout(cells: pd.DataFrame, target: str) -> str | None:
    """Return the reason why a table's best cells are not optima; ``None`` where they may be.

    A table of one or two sizes is not judged.
    """
    known = cells[cells[target] > 0]
    if known["params"].nunique() < BUDGETS:
        return None
    sizes, cells_at = count_sizes(known), known.groupby("flops").size().to_numpy()
    for fewest, share in ((3, HALF), (2, MOST)):
        offering = sizes >= fewest
        if offering.sum() >= BUDGETS and cells_at[offering].sum() >= share * len(known):
            return None
    return f"{(sizes >= 3).sum()} of {len(sizes)} budgets have three sizes"


def has_law(cells: pd.DataFrame) -> bool:
    """Return True where the law of two variables can forecast in place of best cells."""
    try:
        fitted_law(cells)
    except ValueError:
        return False
    return True


def flag(target: str, reason: str, by_law: bool) -> str:
    """Return the flag that names the source of a forecast without profiles."""
    source = "the parametric law" if by_law else "the best of each budget, which is a layout"
    return f"no isoFLOP structure: {target}: {reason}; its forecast comes from {source}"


def validate_law(cells: pd.DataFrame) -> dict[str, Validation]:
    """Validate the parametric law by rolling origin, on later budgets' cells at their own sizes."""
    budgets = np.sort(cells["flops"].unique())
    parts = []
    for count in origins(np.log(budgets), select.first_origin(len(budgets))):
        origin = budgets[count - 1]
        later = cells[(cells["flops"] > origin) & (cells["loss"] > 0) & (cells["samples"] > 0)]
        try:
            found = fitted_law(cells[cells["flops"] <= origin])
        except ValueError:
            continue
        names = ("params", "samples", "loss")
        size, frames, loss = (np.log(later[name].to_numpy(float)) for name in names)
        mean = found.law.log_loss(size, frames)
        own = found.error(partial(parametric.Parametric.log_loss, log_n=size, log_d=frames))
        flops = later["flops"].to_numpy(float)
        columns = {"flops": flops, "error": mean - loss, "own": own, "origin": origin}
        parts.append(pd.DataFrame(columns | {"ahead": np.log10(flops / origin)}))
    return {"parametric": select.validated(pd.concat(parts), PRIOR["loss"])} if parts else {}


def sizes_by_law(cells: pd.DataFrame, x: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """Return log parameters and log frames of the parametric law's optimum at log budgets ``x``.

    Each is (mean, low, high), by the delta method.
    """
    found = fitted_law(cells)
    _, at = found.law.optimum(x)
    cost = np.interp(at, *found.law.cost)  # of FLOPs per parameter and frame, there

    def best(law: parametric.Parametric) -> np.ndarray:
        return law.best_size(x - cost)

    size = best(found.law)
    half = half_width(1.0, found.spare) * found.error(best, noise=False)
    frames = x - cost - size
    return {
        "params": (size, size - half, size + half),
        "frames": (frames, frames - half, frames + half),
    }
