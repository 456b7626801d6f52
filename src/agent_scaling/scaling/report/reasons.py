"""Reasons why a law or a number of a fit is not there, in place of a dash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

FEWEST = 3
"""Points that a power law needs."""
USED = {
    "without_edges": "best sizes inside the grid",
    "significant": "minima with a bounded interval",
    "symmetric": "minima",
}


def no_law(fitted: Mapping[str, Any], form: str, target: str, inner: str | None = None) -> str:
    """Return the reason why a form has no exponent: how many of its budgets it could use."""
    whole = fitted[form][target]
    points = pd.DataFrame(whole["points"])  # a list of rows where it was read from a file
    if inner == "without_edges":
        used = int((~points["edge"]).sum())
    elif inner == "significant":
        used = int((points["flag"] == "").sum()) if len(points) else 0
    elif inner == "symmetric":
        plain = pd.DataFrame(whole["symmetric"]["points"])
        used = int((plain["params"] > 0).sum()) if len(plain) else 0
    elif form == "parabola":
        used = int((~points["flag"].isin(["edge", "concave"])).sum()) if len(points) else 0
    else:
        used = len(points)
    if used >= FEWEST:
        return "no frames are known"
    name = USED.get(inner or "", "minima inside the grid" if form == "parabola" else "budgets")
    return f"{used} {name}, {FEWEST} are needed"
