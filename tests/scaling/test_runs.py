"""Whatever is wrong with a table of runs is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.runs.budgets import merge_budgets
from agent_scaling.scaling.runs.table import read_csv, tidy


def table():
    rows = [
        {"flops": c, "params": n, "samples": c / 6 / n, "eval_loss": 1.0, "return_mean": 10.0}
        for c in (1e12, 1e13, 1e14)
        for n in (1e3, 1e4, 1e5, 1e6)
    ]
    return pd.DataFrame(rows)


def flags_of(frame, kind):
    return [f for f in tidy(frame, "test").flags if f.startswith(kind + ":")]


def test_a_clean_table_has_no_flags():
    assert tidy(table(), "test").flags == []


def test_each_fault_is_named():
    frame = table()
    frame.loc[0, "eval_loss"] = np.nan
    frame.loc[5, "samples"] = np.nan
    frame.loc[6, "return_mean"] = 0.0
    frame["status"] = "FINISHED"
    frame.loc[7, "status"] = "FAILED"
    frame = pd.concat([frame, frame.iloc[[3]]], ignore_index=True).drop(index=[8, 9])
    frame.loc[len(frame) + 5] = {"flops": np.nan, "params": 5.0, "eval_loss": 1.0}
    assert "1e+12 FLOPs, 1000 parameters" in flags_of(frame, "NaN loss")[0]
    assert len(flags_of(frame, "missing metric")) == 2  # samples, and the row without flops
    assert "return 0;" in flags_of(frame, "no logarithm")[0]
    assert "1e+13 FLOPs, 1000000 parameters" in flags_of(frame, "failed run")[0]
    assert len(flags_of(frame, "duplicate cell")) == 2  # of loss and of return
    assert "1e+14 FLOPs has 2 sizes with loss" in flags_of(frame, "few points")[0]


def test_duplicates_average_log_loss_and_weigh_returns_by_rollouts():
    frame = pd.DataFrame(
        {
            "flops": [1e12, 1e12],
            "params": [1e3, 1e3],
            "eval_loss": [1.0, 4.0],
            "return_mean": [10.0, 40.0],
            "n_rollouts": [300, 100],
        }
    )
    cell = tidy(frame, "test").cells.iloc[0]
    assert cell["loss"] == pytest.approx(2.0)
    assert cell["return"] == pytest.approx(17.5)


def test_budgets_that_stand_apart_from_the_others_are_one():
    merged, lines = merge_budgets(np.array([1e12, 2e12, 1.004e12, 1e12]))
    assert merged[0] == merged[2] == merged[3] == pytest.approx(1.002e12, rel=1e-4)
    assert merged[1] == 2e12
    assert lines == ["merged budgets: 2 from 1e+12 to 1.004e+12 FLOPs are one, 1.002e+12"]


def test_an_even_series_of_close_budgets_is_not_one_budget():
    flops = 1e18 * 1.009 ** np.arange(200)
    merged, lines = merge_budgets(flops)
    assert (merged == flops).all()
    assert not lines


def test_runs_that_stop_a_little_late_are_of_their_budget():
    frame = pd.concat([table()] * 2, ignore_index=True)
    late = 1 + 0.03 * np.random.default_rng(0).random(len(frame))
    frame["flops"] *= late
    found = tidy(frame, "test")
    assert found.cells["flops"].nunique() == 3
    assert sum(flag.startswith("merged budgets: 8 ") for flag in found.flags) == 3
    assert tidy(frame, "test", merge_within=0).cells["flops"].nunique() == 24
    with pytest.raises(InputError, match=r"merge_within=1\.5"):
        tidy(frame, "test", merge_within=1.5)


def test_what_cannot_be_read_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="not a readable CSV"):
        read_csv(str(tmp_path / "absent.csv"))
    path = tmp_path / "games.csv"
    table().assign(game=["a", "b"] * 6).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"add game= one of \['a', 'b'\]"):
        read_csv(str(path))
    with pytest.raises(InputError, match="game=c"):
        read_csv(str(path), "c")
    with pytest.raises(InputError, match="no loss and no return"):
        tidy(table().drop(columns=["eval_loss", "return_mean"]), "test")
    with pytest.raises(InputError, match="no run within"):
        tidy(table(), "test", [1e20, 1e21])


def seeded():
    """Three seeds of each cell; the third is absent in one of them."""
    tables = [table().assign(seed=seed, run=f"seed {seed}") for seed in range(3)]
    return pd.concat(tables, ignore_index=True).drop(index=2 * 12 + 7)


def test_seeds_are_no_duplicates_and_those_that_lack_are_named():
    flags = tidy(seeded(), "test").flags
    assert flags == ["missing seed: 1e+13 FLOPs, 1000000 parameters lacks seed 2"]
    twice = pd.concat([seeded(), seeded().iloc[[3]]], ignore_index=True)
    (loss, score) = flags_of(twice, "duplicate cell")
    assert "1e+12 FLOPs, 1000000 parameters, seed 0 has 2 values of loss" in loss
    assert "return" in score
    odd = table()  # one cell's second seed is no fault of the others
    odd = pd.concat([odd.assign(seed=0), odd.iloc[[0]].assign(seed=1)], ignore_index=True)
    assert tidy(odd, "test").flags == []


@pytest.mark.parametrize("runs", [2, 3, 8])
def test_intervals_of_a_cell_hold_its_mean(runs):
    """Nine in ten hold it, of few runs too, where percentiles of a bootstrap do not."""
    generator, cells = np.random.default_rng(0), 600
    frame = pd.DataFrame({"flops": 1e12, "params": np.repeat(np.arange(cells) + 1.0, runs)})
    frame["return_mean"] = 100 + 10 * generator.standard_normal(len(frame))
    frame["return_se"] = 3.0  # of the episodes: a part of what runs differ by
    frame["seed"] = np.tile(np.arange(runs), cells)
    found = tidy(frame, "test").cells
    assert (found["runs"] == runs).all()
    hold = ((found["return_low"] <= 100) & (found["return_high"] >= 100)).mean()
    assert 0.87 < hold < 0.93
    values = frame["return_mean"].to_numpy().reshape(cells, runs)
    drawn = generator.integers(runs, size=(400, runs))
    low, high = np.percentile(values[:, drawn].mean(2), [5, 95], axis=1)
    assert (((low <= 100) & (high >= 100)).mean() < 0.8) == (runs < 4)


def test_one_run_has_the_interval_of_its_own_error():
    frame = table().assign(return_se=2.0, eval_se=0.1)
    cell = tidy(frame, "test").cells.iloc[0]
    assert cell["return_high"] - cell["return"] == pytest.approx(1.645 * 2, rel=1e-3)
    assert np.log(cell["loss"] / cell["loss_low"]) == pytest.approx(0.1645, rel=1e-3)
