"""Clocks that jump."""

from __future__ import annotations

import re

from tests.conftest import ROOT

WALL_CLOCK = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|today|utcnow)\(")


def test_the_wall_clock_decides_nothing() -> None:
    """It is read where points get their time stamps, and nowhere else."""
    folders = ("src", "callbacks", "data_modules")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    reading = {path.name for path in files if WALL_CLOCK.search(path.read_text())}
    assert reading == {"tracking.py"}
