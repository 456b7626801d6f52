"""``tune``'s search against random search at equal FLOPs, on a surface whose optimum is known.

python benchmarks/tune.py [SEEDS]

The surface is a held-out loss over the learning rate, the lanes and the weight decay. Its best rate
falls, and its best lanes grow, with the FLOPs; rates far above the best diverge; each run has the
noise that seeds have. Random search trains each trial to its end; both choose the trial with the
lowest measured loss. The regret is the loss without noise of the chosen settings, less that of the
best ones.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agent_scaling.studies.tuning.rungs import budgets_of
from agent_scaling.studies.tuning.search import Pruner, Sampler, Search
from agent_scaling.studies.tuning.space import space_of

BUDGET, RUNGS, ETA = 1e12, 3, 3
BRANCHED = 0.2
"""Share of a rung that its cooled-down end costs beside the run, as with schedule=cooldown."""
NOISE = 0.004
"""Log SD of a loss between seeds: 0.4 %, as of NetHack's recipe at 3e10 FLOPs."""
TOTALS = (5, 10)
"""FLOPs of a search, in trials that are trained to their end."""
SPACE = {
    "optimizer.lr": {"lowest": 1e-4, "highest": 1.0},
    "data.lanes": {"lowest": 2, "highest": 256},
    "optimizer.weight_decay": {"lowest": 1e-4, "highest": 1.0},
}
DIVERGES = 30.0
"""Times the best rate above which a run diverges."""
SEARCHES: dict[str, tuple[Sampler, Pruner, int]] = {
    "tune (tpe, halving)": ("tpe", "halving", RUNGS),
    "tpe, hyperband": ("tpe", "hyperband", RUNGS),
    "random, halving": ("random", "halving", RUNGS),
    "tpe, each to its end": ("tpe", "none", 1),
    "random, each to its end": ("random", "none", 1),
}


def loss(settings: Mapping[str, object], flops: float) -> float:
    """Held-out loss of a run without noise, nats; infinite where it diverges."""
    rate, lanes, decay = (float(str(settings[key])) for key in SPACE)
    scale = math.log(flops / BUDGET)
    off = np.log([rate / 0.02, lanes / 24, decay / 0.03]) - np.array([-0.1, 0.25, 0.0]) * scale
    if off[0] > math.log(DIVERGES):
        return math.inf
    # A batch that is too large wants a higher rate: the quadratic's axes are not the keys'.
    bowl = np.array([[0.012, -0.004, 0.0], [-0.004, 0.008, 0.0], [0.0, 0.0, 0.002]])
    return float(0.7 * math.exp(-0.09 * scale) * (1 + off @ bowl @ off))


def best_loss() -> float:
    """Return the lowest loss of a trial that is trained to its end."""
    return loss({"optimizer.lr": 0.02, "data.lanes": 24, "optimizer.weight_decay": 0.03}, BUDGET)


def regret(sampler: Sampler, pruner: Pruner, rungs: int, total: float, seed: int) -> float:
    """Search with ``total`` FLOPs; return the regret of the chosen settings, nats."""
    budgets = budgets_of(BUDGET, rungs, ETA)
    costs = [b + BRANCHED * sum(budgets[:k]) for k, b in enumerate(budgets)]
    noise, spent = np.random.default_rng(seed), 0.0
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            Path(folder) / "journal", space_of(SPACE), rungs=rungs, eta=ETA, sampler=sampler,
            pruner=pruner, maximise=False, seed=seed,
        )  # fmt: skip
        while spent + costs[-1] <= total:
            trial = search.ask()
            while trial.state == "goes on":
                cost = costs[trial.rung]
                measured = loss(trial.settings, budgets[trial.rung])
                trial = search.tell(trial, measured * math.exp(NOISE * noise.standard_normal()))
            spent += cost
        return loss(search.ranked()[0].settings, BUDGET) - best_loss()


def median_of(regrets: np.ndarray) -> tuple[float, float, float]:
    """Return the median, with its 90 % interval by a bootstrap of 2,000 resamples."""
    drawn = np.random.default_rng(0).choice(regrets, (2000, len(regrets)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.05, 0.95])
    return float(np.median(regrets)), float(low), float(high)


def main(seeds: int) -> None:
    """Print the regrets of each search at each total."""
    print(f"median regret in nats over {seeds} seeds [90 %]; the best loss is {best_loss():.3f}")
    for total in TOTALS:
        found = {
            name: np.array([regret(*how, total * BUDGET, seed) for seed in range(seeds)])
            for name, how in SEARCHES.items()
        }
        base = found["random, each to its end"]
        print(f"\nFLOPs of {total} trials to their end")
        for name, regrets in found.items():
            middle, low, high = median_of(regrets)
            wins = (regrets < base).mean()
            print(f"  {name:24} {middle:.4f} [{low:.4f}, {high:.4f}]  below random: {wins:.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
