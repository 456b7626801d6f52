"""The learning rate over frames and FLOPs."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from agent_scaling.policies.flops import Convention
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.schedules import Schedule, change

COST = 7.0


def spent(frames: int) -> dict[Convention, float]:
    return {"model": frames * COST, "paper": frames * 2 * COST, "6nd": frames * 3 * COST}


def rates(schedule: Schedule, frames: range) -> list[float]:
    return [schedule(n, spent(n)) for n in frames]


def test_constant_rises_and_stays() -> None:
    schedule = Schedule(warmup=40 * COST, budget=1e3)
    assert rates(schedule, range(0, 101, 20)) == pytest.approx([0, 0.5, 1, 1, 1, 1])
    assert rates(Schedule(), range(0, 100, 7)) == [1.0] * 15


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_decay_ends_at_the_budget(decay: str) -> None:
    schedule = Schedule(decay=decay, warmup=20 * COST, final=0.2, budget=120 * COST)
    assert schedule(20, spent(20)) == 1.0
    assert schedule(70, spent(70)) == pytest.approx(0.6)  # half-way, both are in the middle
    assert schedule(120, spent(120)) == pytest.approx(0.2)
    assert schedule(10**6, spent(10**6)) == pytest.approx(0.2)
    falling = rates(schedule, range(20, 121))
    assert all(a > b for a, b in pairwise(falling))
    quarter = schedule(45, spent(45))
    by_formula = 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2
    assert quarter == pytest.approx(by_formula if decay == "cosine" else 0.8)


def test_the_rate_stays_for_a_share_of_the_way() -> None:
    options: dict[str, Any] = {"decay": "linear", "warmup": 20 * COST, "budget": 120 * COST}
    schedule = Schedule(**options, hold=0.6)
    assert rates(schedule, range(20, 81, 20)) == [1.0] * 4
    assert rates(schedule, range(90, 131, 10)) == pytest.approx([0.75, 0.5, 0.25, 0, 0])
    assert change(Schedule(**options), schedule, 50, spent(50)) is not None


def test_a_cooldown_is_held_and_falls_as_one_minus_the_root() -> None:
    options: dict[str, Any] = {"decay": "sqrt", "hold": 0.8, "warmup": 20 * COST}
    schedule = Schedule(**options, budget=120 * COST, branches=True)
    assert rates(schedule, range(20, 101, 20)) == [1.0] * 5
    by_formula = [1 - math.sqrt((n - 100) / 20) for n in (105, 110, 120)]
    assert rates(schedule, range(105, 106)) == pytest.approx(by_formula[:1])
    assert rates(schedule, range(110, 121, 10)) == pytest.approx(by_formula[1:])
    branch = Schedule(**options, budget=60 * COST)
    assert change(schedule, branch, 52, spent(52)) is None  # as yet the rates are the same
    assert change(schedule, branch, 53, spent(53)) is not None


def test_units_and_conventions_agree_on_the_same_frames() -> None:
    own: dict[str, Any] = {"decay": "cosine", "final": 0.1}
    frames = Schedule(**own, unit="frames", warmup=10, horizon=90)
    model = Schedule(**own, warmup=10 * COST, budget=90 * COST)
    nd = Schedule(**own, warmup=30 * COST, budget=270 * COST, convention="6nd")
    for n in range(0, 120, 3):
        assert frames(n, spent(n)) == pytest.approx(model(n, spent(n)))
        assert frames(n, spent(n)) == pytest.approx(nd(n, spent(n)))


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"decay": "exponential"}, "decay='exponential'"),
        ({"unit": "steps"}, "unit='steps'"),
        ({"final": 2.0}, "final=2"),
        ({"decay": "cosine"}, "set schedule.horizon"),
        ({"decay": "cosine", "unit": "frames", "budget": 1e9}, "set schedule.horizon, in frames"),
        ({"decay": "linear", "warmup": 10.0, "horizon": 10.0}, "warmup=10 is not shorter"),
    ],
)
def test_schedules_that_cannot_be(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        Schedule(**wrong)


def test_another_schedule_is_told_on_resume() -> None:
    short = Schedule(decay="cosine", final=0.1, budget=100 * COST)
    long = Schedule(decay="cosine", final=0.1, budget=1000 * COST)
    assert change(short, short, 100, spent(100)) is None
    assert change(Schedule(budget=1e3), Schedule(budget=1e6), 100, spent(100)) is None
    line = change(short, long, 100, spent(100))
    assert line is not None
    assert "was 0.1 of optimizer.lr and is 0.978 now" in line
    assert "its end moved from 700 flops to 7000 flops" in line
    assert "schedule.horizon=700 would keep it" in line
    kept = Schedule(decay="cosine", final=0.1, budget=1000 * COST, horizon=100 * COST)
    assert change(short, kept, 100, spent(100)) is None
