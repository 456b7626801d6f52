"""Numbers as people read them."""

from __future__ import annotations

import re
from datetime import timedelta


def short(value: float) -> str:
    """``46.45M``: four digits, so that a table fits a terminal."""
    for unit in ("", "k", "M", "G"):
        if value < 1000 or unit == "G":
            break
        value /= 1000
    return f"{value:.4g}{unit}"


def compact(value: float, digits: int = 4) -> str:
    """``3e12``: as a command line takes it."""
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.{digits}g}")


def measured(value: float, error: float | None, digits: int = 3) -> str:
    """``1.234 ± 0.005``: a value and its standard error, where there is one."""
    text = f"{value:,.{digits}f}"
    return text if error is None or error != error else f"{text} ± {error:,.{digits}f}"


def clock(seconds: float) -> str:
    """``1 day, 2:03:04``."""
    return str(timedelta(seconds=round(seconds)))
