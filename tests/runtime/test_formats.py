"""Numbers are written the same everywhere."""

from __future__ import annotations

import pytest

from agent_scaling.runtime.formats import compact, short


@pytest.mark.parametrize(
    ("value", "text"),
    [(46_450_000, "46.45M"), (999, "999"), (-20_000, "-20k"), (3.2e12, "3.2T"), (5e15, "5000T")],
)
def test_short_has_a_unit_per_thousand(value: float, text: str) -> None:
    assert short(value) == text


def test_short_takes_digits_and_a_gap_before_the_unit() -> None:
    assert short(43_210, digits=3, gap=" ") == "43.2 k"
    assert short(12.345, digits=3, gap=" ") == "12.3"


def test_compact_writes_exponents_as_a_command_line_takes_them() -> None:
    assert [compact(value) for value in (3e12, 1e-5, 250.0)] == ["3e12", "1e-5", "250"]
