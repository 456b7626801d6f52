"""Compares a forecast with later measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agent_scaling.runtime.errors import InputError


def compare(row: Mapping[str, Any], measured: Mapping[str, float]) -> dict[str, Any]:
    """Return each metric's measured value, log error (predicted − measured) and coverage.

    ``within`` is True where the forecast's interval holds the measured value.

    Raises:
        InputError: A metric that the forecast lacks, or a value that is not positive.
    """
    found: dict[str, Any] = {}
    for name, value in measured.items():
        if name not in row or not value > 0:
            known = [n for n in ("loss", "return") if n in row]
            raise InputError(f"measured.{name}={value}: give values above 0 of {known}")
        low, high = row[f"{name}_interval"]
        error = math.log(row[name] / value)
        found[name] = {"measured": value, "log_error": error, "within": bool(low <= value <= high)}
    return found
