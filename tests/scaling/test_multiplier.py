"""Compute multipliers: the truth of a known law, its interval, and what cannot be said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agent_scaling.scaling.multiplier import Multiplier, multipliers, table
from agent_scaling.scaling.report.variants import draw_variants
from agent_scaling.studies.display.variants import show_multipliers

BUDGETS = np.array([1e11, 3e11, 1e12, 3e12, 1e13, 3e13])
SPEED = 2e10


def cells(ahead: float, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Two variants of L = 3 (C / 1e11)^-0.2; the second needs ``ahead`` times less compute."""
    draw = np.random.default_rng(seed)
    rows = []
    for variant, factor in (("paper", 1.0), ("ours", ahead)):
        for flops in BUDGETS:
            for params, penalty in ((1e4, 1.1), (3e4, 1.0), (1e5, 1.2)):
                loss = 3 * (factor * flops / 1e11) ** -0.2 * penalty
                loss *= float(np.exp(noise * draw.standard_normal()))
                row = {"variant": variant, "flops": flops, "params": params, "eval_loss": loss}
                rows.append(row | {"cpu_seconds": flops / SPEED / (factor if ahead > 1 else 1)})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("ahead", [1.0, 4.0, 30.0])
def test_the_multiplier_of_a_known_law(ahead: float) -> None:
    found = multipliers(cells(ahead), "paper")
    assert [one.flops for one in found] == BUDGETS.tolist()
    assert [one.multiplier for one in found] == pytest.approx([ahead] * len(BUDGETS))
    assert [one.extrapolated for one in found] == [ahead * c > 1.01e13 * 3 for c in BUDGETS]


def test_seconds_are_compared_as_flops_are() -> None:
    found = multipliers(cells(4.0), "paper", "cpu_seconds")
    assert [one.multiplier for one in found] == pytest.approx([16.0] * len(BUDGETS))
    assert found[0].spent == pytest.approx(1e11 / SPEED / 4)


def test_the_interval_holds_the_truth_nine_times_in_ten() -> None:
    hits = [
        one.low <= 4.0 <= (one.high or np.inf)
        for seed in range(100)
        for one in multipliers(cells(4.0, noise=0.02, seed=seed), "paper")
    ]
    assert 0.85 <= np.mean(hits) <= 0.96


def test_too_few_budgets_or_a_loss_that_rises_give_none() -> None:
    few = cells(4.0)
    assert multipliers(few[few["flops"] < 5e11], "paper") == []
    rising = few.assign(eval_loss=1 / few["eval_loss"])
    assert multipliers(rising, "paper") == []


def test_an_unbounded_interval_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    few = cells(4.0, noise=0.2, seed=1)
    noisy = multipliers(few[few["flops"] < 2e12], "paper")
    assert any(one.high is None for one in noisy)
    show_multipliers(noisy, "paper", "FLOPs")
    shown = capsys.readouterr().out
    assert "∞" in shown
    assert "FLOPs that paper needs for the same loss" in shown
    assert list(table(noisy).columns) == list(Multiplier.__dataclass_fields__)


def test_the_figure_is_drawn_twice(tmp_path: Path) -> None:
    made = draw_variants(cells(4.0), "cpu_seconds", tmp_path / "seconds.png")
    assert made.stat().st_size > 10_000
    assert made.with_suffix(".svg").stat().st_size > 10_000
