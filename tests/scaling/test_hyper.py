"""Laws of the learning rate and the batch are recovered from drawn surfaces."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.fitting.hyper import hyper, surface
from agent_scaling.scaling.laws.hyper import CRITICAL
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import ALPHA, BETA, A, B, E

RATES, BATCHES = np.geomspace(3e-4, 3e-2, 5), np.geomspace(64, 4096, 5)
BEND, CROSS = 0.02, 0.3
"""Curvature of the log loss along either setting, and the correlation of the two."""


def best_rate(params, frames):
    return 3e-3 * (params / 3e4) ** -0.3 * (frames / 1e6) ** 0.1


def best_batch(params, frames):
    return 400 * (frames / 1e6) ** 0.4


def drawn(seed, rates=RATES, batches=BATCHES, noise=0.003):
    generator = np.random.default_rng(seed)
    rows = [
        {"flops": c, "params": n, "samples": c / 6 / n, "lr": lr, "batch": batch}
        for c in (3e10, 3e11, 3e12)
        for n in (1e4, 3e4, 1e5)
        for lr in rates
        for batch in batches
    ]
    table = pd.DataFrame(rows)
    n, d = table["params"], table["samples"]
    off = np.log(table["lr"] / best_rate(n, d)), np.log(table["batch"] / best_batch(n, d))
    off = [x * (len(v) > 1) for x, v in zip(off, (rates, batches), strict=True)]
    rise = BEND * (off[0] ** 2 + off[1] ** 2 - 2 * CROSS * off[0] * off[1])
    law = E + A / n**ALPHA + B / d**BETA
    return table.assign(loss=law * np.exp(rise + noise * generator.standard_normal(len(n))))


def rows_of(*args, **more):
    return tidy(drawn(*args, **more), "drawn").every


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["lr"], {"batches": [512.0]}),
        (["batch"], {"rates": [1e-3]}),
        (["lr", "batch"], {}),
    ],
)
def test_intervals_hold_exponents_and_best_settings(names, more):
    params, frames = 1e6, 3e7
    truth = {"lr": best_rate(params, frames), "batch": best_batch(params, frames)}
    powers = {"lr": {"N": -0.3, "D": 0.1}, "batch": {"N": 0.0, "D": 0.4}}
    hits = []
    for seed in range(20):
        law = surface(rows_of(seed, **more))
        assert list(law.names) == names
        found, exponents = law.best(params, frames), law.exponents()
        for name in names:
            _, low, high = found[name]
            hits.append(low <= truth[name] <= high)
            for term, power in powers[name].items():
                value, low, high = exponents[name][term]
                hits.append(low <= power <= high)
                assert value == pytest.approx(power, abs=0.15)
    assert 0.82 <= np.mean(hits) <= 0.98


def test_at_the_critical_batch_a_fifth_more_frames_are_needed():
    law = surface(rows_of(0, rates=[1e-3], noise=1e-4))
    params, frames = 3e4, 1e6
    value, low, high = law.critical_batch(params, frames)
    assert low <= value <= high
    off = np.log(value / best_batch(params, frames))
    more = law.slope * np.log(CRITICAL)  # of log loss, by the law's own slope in D
    assert BEND * off**2 == pytest.approx(more, rel=0.1)
    assert surface(rows_of(0, batches=[512.0])).critical_batch(params, frames) is None


def test_a_fit_has_the_law_and_its_sizes_are_of_the_best_settings(tmp_path, capsys):
    table = drawn(1)
    table.to_csv(tmp_path / "runs.csv", index=False)
    options = {"bootstraps": 0, "figures": False, "output": str(tmp_path)}
    fit(source="csv", path=str(tmp_path / "runs.csv"), **options)
    shown = capsys.readouterr().out
    assert "best lr: " in shown
    assert "critical batch: " in shown
    fitted = json.loads((tmp_path / "fit.json").read_text())
    law = fitted["hyper"]["settings"]["lr"]
    assert law["N_exponent"] == pytest.approx(-0.3, abs=0.05)
    lowest = table.groupby("flops")["loss"].min().to_numpy()
    points = pd.DataFrame(fitted["best_of_grid"]["loss"]["points"])
    assert points["loss"].to_numpy() == pytest.approx(lowest)


def test_values_on_one_side_of_the_best_are_flagged_or_have_no_law():
    flags = []
    found = hyper(rows_of(2, rates=RATES[:3] / 30, batches=[512.0]), flags)
    assert found is None or any(flag.startswith("edge: lr") for flag in flags)
    assert flags
    assert hyper(rows_of(2, rates=RATES[:2], batches=[512.0]), []) is None
    assert hyper(rows_of(2, rates=[1e-3], batches=[512.0]), []) is None
