"""Bootstrap fits of the default analysis per second: 15 runs, 10 sizes, 13 budgets, 195 cells.

    python benchmarks/fit.py [bootstraps]

Each resample draws sizes, runs and episodes, and fits profiles (grid and parabolas) of loss and
return, their power laws, the saturating law and return from loss.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd

from agent_scaling.scaling.fitting.bootstrap import bootstrap_intervals
from agent_scaling.scaling.runs.table import Runs, tidy


def table(seed: int = 0) -> Runs:
    """A full grid from a known law, 1 % noise on loss, 1,000 episodes of return."""
    generator = np.random.default_rng(seed)
    sizes = np.geomspace(2e5, 2e8, 10)
    budgets = [m * 10.0**e for e in range(14, 18) for m in (1, 2, 5)] + [1e18]
    runs = enumerate([*sizes, *sizes[-5:]])  # the five largest twice
    rows = [(run, params, flops) for run, params in runs for flops in budgets]
    frame = pd.DataFrame(rows, columns=["run", "params", "flops"])
    frame["samples"] = frame["flops"] / 6 / frame["params"]
    law = 0.1 + 50 / frame["params"] ** 0.4 + 2e4 / frame["samples"] ** 0.5
    frame["eval_loss"] = law * np.exp(0.01 * generator.standard_normal(len(frame)))
    frame["return_mean"] = 150 * frame["eval_loss"] ** -1.6
    return tidy(frame.assign(return_se=0.03 * frame["return_mean"], n_rollouts=1000), "synthetic")


def main(count: int = 10_000) -> None:
    runs = table()
    bootstrap_intervals(runs, 500)
    begin = time.perf_counter()
    bootstrap_intervals(runs, count)
    seconds = time.perf_counter() - begin
    found = {"bootstraps_per_second": count / seconds, "seconds": seconds}
    print(json.dumps({"cells": len(runs.rows), "bootstraps": count} | found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
