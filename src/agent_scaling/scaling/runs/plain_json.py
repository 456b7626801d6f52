"""Converts results to plain values that JSON can represent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

PLAIN = (str, int, bool, type(None))
"""Types whose values JSON has as they are."""


def plain(value: object) -> Any:
    """Convert numpy and pandas values to Python's; non-finite numbers become ``None``.

    JSON has neither NaN nor infinity.
    """
    if type(value) is float:  # most values of a large table
        return value if math.isfinite(value) else None
    if type(value) in PLAIN:
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("records"))
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
