"""Files that are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.errors import InputError


def plain(value: Any) -> Any:
    """Numpy values as Python's, what is not finite as ``None``: JSON has no NaN."""
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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON beside the target, then replace it.

    Raises:
        InputError: The folder cannot be written.
    """
    write_text(path, json.dumps(plain(value), indent=1))


def write_text(path: Path, text: str) -> None:
    """Write beside the target, then replace it.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        raise InputError(f"output={path.parent}: cannot be written ({error.strerror})") from error
