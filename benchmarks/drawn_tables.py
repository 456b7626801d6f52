"""Tables drawn from published laws, with the noise that real runs have; for ``tables.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agent_scaling.scaling.runs.table import tidy

LAWS = {
    "Hoffmann": (1.69, 406.4, 410.7, 0.34, 0.28),
    "Chinchilla": (1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    "Muennighoff": (1.87, 521.0, 1488.0, 0.353, 0.353),
}
"""E, A, B, α, β of language models: Hoffmann et al. 2022; Besiroglu et al. 2024 on the same runs;
Muennighoff et al. 2023."""

DESIGNS = {
    "4 sizes": (4, 1.0),
    "5 sizes": (5, 1.0),
    "7 sizes": (7, 1.0),
    "10 sizes": (10, 1.0),
    "7 sizes, 10 x too large": (7, 10.0),
    "7 sizes, 10 x too small": (7, 0.1),
}
"""Sizes of a table, and how far off the optima they are: to which side, by which factor."""

NOISE, LAG, BETWEEN = 0.03, 0.37, 0.25
"""Log SD of a cell, correlation of a size's neighbouring budgets, share of the variance that is
between sizes: as the paper's repeated cells have."""

BUDGETS = np.geomspace(1e18, 1e21, 10)


@dataclass(frozen=True)
class Table:
    """A table to forecast; ``best`` is the law's best size of a budget, where a law is known."""

    name: str
    cells: pd.DataFrame
    best: Callable[[np.ndarray], np.ndarray] | None = None


def best_size(law: tuple[float, ...], flops: np.ndarray) -> np.ndarray:
    """Parameters at which E + A/N^α + B/D^β is lowest for 6 · N · D FLOPs."""
    _, a, b, alpha, beta = law
    ratio = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    found: np.ndarray = ratio * (flops / 6) ** (beta / (alpha + beta))
    return found


def persistent_noise(sizes: int, budgets: int, generator: np.random.Generator) -> np.ndarray:
    """Log errors (sizes, budgets) that last within a size: a part for good, a part that fades."""
    own = np.sqrt(BETWEEN) * generator.standard_normal((sizes, 1))
    share = (LAG - BETWEEN) / (1 - BETWEEN)  # of the rest, from one budget to the next
    rest = generator.standard_normal((sizes, budgets))
    for k in range(1, budgets):
        rest[:, k] = share * rest[:, k - 1] + np.sqrt(1 - share**2) * rest[:, k]
    noise: np.ndarray = NOISE * (own + np.sqrt(1 - BETWEEN) * rest)
    return noise


def drawn_tables(seeds: int) -> Iterator[Table]:
    """``seeds`` tables of each law and each design."""
    for name, law in LAWS.items():
        for design, (sizes, off) in DESIGNS.items():
            for seed in range(seeds):
                cells = draw(law, sizes, off, np.random.default_rng([seed, sizes]))
                yield Table(f"{design}: {name} {seed}", cells, lambda c, of=law: best_size(of, c))


def draw(
    law: tuple[float, ...], sizes: int, off: float, generator: np.random.Generator
) -> pd.DataFrame:
    """Sizes of a factor 3 around all optima or, ``off``, from so many times beyond them."""
    best = best_size(law, BUDGETS)
    ends = (best[0] / 3, best[-1] * 3)
    if off != 1:
        ends = (
            (off * best[-1], off * best[-1] * 30)
            if off > 1
            else (off * best[0] / 30, off * best[0])
        )
    size = np.geomspace(*ends, sizes)[:, None]
    frames = BUDGETS / 6 / size
    e, a, b, alpha, beta = law
    noise = persistent_noise(sizes, len(BUDGETS), generator)
    loss = (e + a / size**alpha + b / frames**beta) * np.exp(noise)
    columns = {"params": size, "flops": BUDGETS, "samples": frames, "loss": loss}
    shape = loss.shape
    table = {name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()}
    return tidy(pd.DataFrame(table), "drawn").cells
