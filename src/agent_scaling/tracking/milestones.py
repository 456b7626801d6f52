"""Reads the milestones that a run's folder holds, those of its branches among them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

TABLE = "milestones.json"
"""In a run's output folder: a row per milestone."""
BRANCHES = "branches"
"""In a run's output folder: a folder per branch, each that of a run."""


def milestones(output: Path) -> list[dict[str, Any]]:
    """Return the rows of a run and of its branches, each with its ``folder``, by FLOPs.

    A table that is missing or half written has none.
    """
    rows: list[dict[str, Any]] = []
    for folder in (output, *(output / BRANCHES).glob("*")):
        try:
            found = json.loads((folder / TABLE).read_text())
        except (OSError, ValueError):
            continue
        rows += [{**row, "folder": folder} for row in found]
    return sorted(rows, key=lambda row: float(row["milestone"]))


def is_at(row: dict[str, Any], budget: float) -> bool:
    """True where a row of the record belongs to a budget."""
    return math.isclose(float(row["milestone"]), budget, rel_tol=1e-6)


def is_saved(row: dict[str, Any]) -> bool:
    """True where a row's checkpoint is there: it is saved just after the row is written."""
    folder, checkpoint = Path(row["folder"]), str(row["checkpoint"])
    return (folder / checkpoint).exists()
