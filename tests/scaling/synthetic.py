"""Tables of runs drawn from a law that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agent_scaling.scaling.runs.table import Runs, tidy

E, A, B, ALPHA, BETA = 0.12, 60.0, 2.5e4, 0.4, 0.5
"""L(N, D) = E + A/N^α + B/D^β, frames D = C / 6N."""

DELTA = -1.6
"""Return = 150 · L^DELTA."""

N_OPT = BETA / (ALPHA + BETA)


def optimum(
    flops: np.ndarray,
    e: float = E,
    a: float = A,
    b: float = B,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> tuple[np.ndarray, np.ndarray]:
    """(parameters, loss) of the best size of each budget, by the formula."""
    ratio = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    params = ratio * (np.asarray(flops) / 6) ** (beta / (alpha + beta))
    loss = e + a / params**alpha + b / (flops / 6 / params) ** beta
    return params, loss


def known_cells(
    noise: float,
    seed: int,
    budgets: int = 10,
    sizes: int = 10,
    off: float = 1.0,
    e: float = E,
    a: float = A,
    b: float = B,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> pd.DataFrame:
    """Losses of a grid of ``sizes`` by ``budgets`` with independent log-normal noise.

    The sizes go from a sixth of the lowest budget's best to six times the highest's, all times
    ``off``.
    """
    generator = np.random.default_rng(seed)
    flops = np.geomspace(1e14, 1e17, budgets)
    best, _ = optimum(flops, e, a, b, alpha, beta)
    params = off * np.geomspace(best[0] / 6, best[-1] * 6, sizes)
    size, budget = (grid.ravel() for grid in np.meshgrid(params, flops, indexing="ij"))
    frames = budget / 6 / size
    law = e + a / size**alpha + b / frames**beta
    loss = law * np.exp(noise * generator.standard_normal(len(law)))
    table = {"params": size, "flops": budget, "samples": frames, "loss": loss, "law": law}
    return pd.DataFrame(table)


def with_returns(cells: pd.DataFrame, seed: int, episodes_sd: float = 0.03) -> pd.DataFrame:
    """Returns that follow the loss's law, with log-normal noise of their own."""
    shift = np.random.default_rng([seed, 1]).standard_normal(len(cells))
    return cells.assign(**{"return": 150 * cells["law"] ** DELTA * np.exp(episodes_sd * shift)})


def known_law(
    noise: float, seed: int, episodes_sd: float = 0.03, budgets: int = 10, sizes: int = 10
) -> Runs:
    """:func:`known_cells` with returns, as runs."""
    frame = with_returns(known_cells(noise, seed, budgets, sizes), seed, episodes_sd)
    return tidy(frame.assign(return_se=episodes_sd * frame["return"]), "synthetic")
