"""Seconds of fits: bootstraps of 195 cells, an analysis without them, large tables, one law.

    python benchmarks/fit.py [bootstraps] [rows]

Each resample draws sizes, runs and episodes, and fits profiles (grid and parabolas) of loss and
return, their power laws, the saturating law and return from loss. The others are CPU seconds of
one thread: of the whole default analysis without a bootstrap (all laws, rolling origins, forecast),
of the parametric law of 240 cells, and of a table of so many rows, read and analysed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from agent_scaling.scaling.fit import analyse
from agent_scaling.scaling.fitting.bootstrap import bootstrap_intervals
from agent_scaling.scaling.laws.parametric import fit_parametric
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


def grid(budgets: int, sizes: int, seeds: int = 1) -> pd.DataFrame:
    """Losses of a full grid from a known law, 2 % noise, as a table that ``tidy`` takes."""
    generator = np.random.default_rng(0)
    flops, params = np.geomspace(1e14, 1e18, budgets), np.geomspace(2e5, 2e8, sizes)
    axes = np.meshgrid(flops, params, np.arange(seeds), indexing="ij")
    frame = pd.DataFrame(
        {n: a.ravel() for n, a in zip(("flops", "params", "seed"), axes, strict=True)}
    )
    frame["samples"] = frame["flops"] / 6 / frame["params"]
    law = 0.1 + 50 / frame["params"] ** 0.4 + 2e4 / frame["samples"] ** 0.5
    return frame.assign(loss=law * np.exp(0.02 * generator.standard_normal(len(frame))))


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of ``work``, called once."""
    begin = time.process_time()
    work()
    return round(time.process_time() - begin, 3)


def main(count: int = 10_000, rows: int = 100_000) -> None:
    runs, cells, large = table(), tidy(grid(15, 16), "grid").cells, grid(rows // 200, 20, 10)
    fit_parametric(cells)
    once = {
        "analysis_of_195_cells": cpu_seconds(lambda: analyse(runs, [1e19], 0, 0)),
        "parametric_law_of_240_cells": cpu_seconds(lambda: fit_parametric(cells)),
        f"table_of_{len(large)}_rows": cpu_seconds(
            lambda: analyse(tidy(large, "large"), [1e19], 0, 0)
        ),
    }
    print(json.dumps({"cpu_seconds": once}), flush=True)
    if not count:
        return
    bootstrap_intervals(runs, 500)
    begin = time.perf_counter()
    bootstrap_intervals(runs, count)
    seconds = time.perf_counter() - begin
    found = {"bootstraps_per_second": count / seconds, "seconds": seconds}
    print(json.dumps({"cells": len(runs.rows), "bootstraps": count} | found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
