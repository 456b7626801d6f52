"""Formats numbers for people to read."""

from __future__ import annotations

import re
from datetime import timedelta


def short(value: float, digits: int = 4, gap: str = "") -> str:
    """Format with few digits and k, M, G or T, so that a table fits a terminal: ``46.45M``."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(value) < 1000 or unit == "T":
            break
        value /= 1000
    return f"{value:.{digits}g}{gap if unit else ''}{unit}"


def compact(value: float, digits: int = 4) -> str:
    """Format as one types it on the command line: ``3e12``."""
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.{digits}g}")


def measured(value: float, error: float | None, digits: int = 3) -> str:
    """Format a value with its standard error, where there is one: ``1.234 ± 0.005``."""
    text = f"{value:,.{digits}f}"
    return text if error is None or error != error else f"{text} ± {error:,.{digits}f}"


def clock(seconds: float) -> str:
    """Format seconds as days and time: ``1 day, 2:03:04``."""
    return str(timedelta(seconds=round(seconds)))
