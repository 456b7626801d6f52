"""Tables of runs drawn from a law that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agent_scaling.scaling.runs import Runs, tidy

E, A, B, ALPHA, BETA = 0.12, 60.0, 2.5e4, 0.4, 0.5
"""L(N, D) = E + A/N^α + B/D^β, frames D = C / 6N."""

DELTA = -1.6
"""Return = 150 · L^DELTA."""

N_OPT = BETA / (ALPHA + BETA)


def optimum(flops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(parameters, loss) of the best size of each budget, by the formula."""
    ratio = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    params = ratio * (np.asarray(flops) / 6) ** N_OPT
    loss = E + A / params**ALPHA + B / (flops / 6 / params) ** BETA
    return params, loss


def known_law(
    noise: float, seed: int, episodes_sd: float = 0.03, budgets: int = 10, sizes: int = 10
) -> Runs:
    """A grid of ``sizes`` by ``budgets`` around the optimum, independent log-normal noise."""
    generator = np.random.default_rng(seed)
    flops = np.geomspace(1e14, 1e17, budgets)
    params = np.geomspace(optimum(flops[0])[0] / 6, optimum(flops[-1])[0] * 6, sizes)
    frame = pd.DataFrame([(n, c) for n in params for c in flops], columns=["params", "flops"])
    frame["samples"] = frame["flops"] / 6 / frame["params"]
    law = E + A / frame["params"] ** ALPHA + B / frame["samples"] ** BETA
    frame["eval_loss"] = law * np.exp(noise * generator.standard_normal(len(frame)))
    shift = np.exp(episodes_sd * generator.standard_normal(len(frame)))
    frame["return_mean"] = 150 * law**DELTA * shift
    return tidy(frame.assign(return_se=episodes_sd * frame["return_mean"]), "synthetic")
