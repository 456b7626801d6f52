"""Compares a forecast with later measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.runs.lowest import ceiling


def compare(row: Mapping[str, Any], measured: Mapping[str, float]) -> dict[str, Any]:
    """Return each metric's measured value, log error (predicted − measured) and coverage.

    ``within`` is True where the forecast's interval holds the measured value. The log error of
    returns is of what lies above the row's ``lowest_return``.

    Raises:
        InputError: A metric that the forecast lacks, a value that does not lie above 0 or the
            lowest return, or a return above the highest one.
    """
    found: dict[str, Any] = {}
    for name, value in measured.items():
        zero = zero_of_row(row, name)
        if name not in row or not value > zero:
            known = [n for n in ("loss", "return") if n in row]
            raise InputError(f"measured.{name}={value}: give values above {zero:g} of {known}")
        highest = row.get("highest_return") if name == "return" else None
        if highest is not None and value > ceiling(highest):
            raise InputError(f"measured.{name}={value}: lies above highest_return={highest:g}")
        low, high = row[f"{name}_interval"]
        error = math.log((row[name] - zero) / (value - zero))
        found[name] = {"measured": value, "log_error": error, "within": bool(low <= value <= high)}
    return found


def zero_of_row(row: Mapping[str, Any], name: str) -> float:
    """Return the value of the metric ``name`` that a forecast counts from."""
    return float(row.get("lowest_return", 0.0)) if name == "return" else 0.0
