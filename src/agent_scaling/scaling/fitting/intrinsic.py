"""Fits the law of intrinsic performance to the cells of runs that learn by playing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.scaling.laws.intrinsic import FEWEST, Intrinsic, fit_intrinsic

SIZES, BUDGETS = 3, 3
"""Sizes and budgets without which the terms of the law cannot be told apart."""


def law_of(cells: pd.DataFrame) -> Intrinsic | None:
    """Fit the law to ``cells``; ``None`` where they are too few."""
    known = cells[(cells["return"] > 0) & (cells["samples"] > 0)]
    enough = known["params"].nunique() >= SIZES and known["flops"].nunique() >= BUDGETS
    if not enough or len(known) < FEWEST:
        return None
    names = ("params", "samples", "flops", "return")
    return fit_intrinsic(*(known[name].to_numpy(float) for name in names))


def intrinsic(cells: pd.DataFrame) -> dict[str, Any] | None:
    """Fit the law of intrinsic performance, in the shape of ``fit.json``.

    ``N_opt`` is k of N_opt ∝ C^k, ``params`` the best size at the highest budget, and ``cells``
    holds the intrinsic performance of each cell, in FLOPs, and its share of the FLOPs that the cell
    has trained with. ``None`` where the cells are too few.
    """
    law = law_of(cells)
    if law is None:
        return None
    known = cells[(cells["return"] > 0) & (cells["samples"] > 0)]
    top = float(known["flops"].max())
    alphas = np.exp(law.draws[:, :2])
    performance = law.performance(known["params"].to_numpy(), known["samples"].to_numpy())
    found = known[["flops", "params"]].assign(
        performance=performance, share=performance / known["flops"]
    )
    return {
        "alpha_N": law.alphas[0],
        "alpha_N_interval": law.interval(alphas[:, 0]),
        "alpha_E": law.alphas[1],
        "alpha_E_interval": law.interval(alphas[:, 1]),
        "N_opt": law.exponent(),
        "N_opt_interval": law.interval(np.array([law.exponent(d) for d in law.draws])),
        "flops": top,
        "params": law.best_size(top),
        "params_interval": law.interval(np.array([law.best_size(top, d) for d in law.draws])),
        "residual_sd": law.noise,
        "cells": found,
    }
