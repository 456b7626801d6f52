"""Tables of episodes: their summaries and their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agent_scaling.runtime.files import whole_file, write_file

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("return", "progression", "steps", "turns", "max_depth", "level", "gold")
RESAMPLES = 2000


def describe(values: npt.ArrayLike) -> dict[str, float | list[float] | None]:
    """Return the mean, its standard error, the median, and the mean's 90 % bootstrap interval.

    A single value has None for the standard error and the interval.
    """
    array = np.asarray(values, dtype=np.float64)
    found: dict[str, float | list[float] | None] = {
        "mean": float(array.mean()),
        "se": None,
        "median": float(np.median(array)),
        "interval": None,
    }
    if len(array) > 1:
        found["se"] = float(array.std(ddof=1) / len(array) ** 0.5)
        # A generator with a fixed seed, so that the same table gives the same interval.
        resampled = np.random.default_rng(0).choice(array, (RESAMPLES, len(array)))
        found["interval"] = np.quantile(resampled.mean(axis=1), [0.05, 0.95]).tolist()
    return found


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Summarise a table of episodes: measures, share solved, ends, returns by role.

    Episodes that crashed their workers repeatedly have no measures, and are only counted.
    """
    whole = table[table["end"] != "crashed"]
    summary: dict[str, Any] = {"episodes": len(table), "crashed": len(table) - len(whole)}
    if len(whole):
        summary |= {name: describe(whole[name]) for name in MEASURES if name in whole}
    if "solved" in table:
        summary["solved"] = float(table["solved"].eq(True).mean())
    summary["ends"] = {str(end): int(n) for end, n in table["end"].value_counts().items()}
    by_role = whole.groupby("role") if "role" in whole else ()
    summary["roles"] = {
        str(role): {"episodes": len(rows), "return": describe(rows["return"])}
        for role, rows in by_role
    }
    return summary


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write Parquet, whole or not at all; raise :class:`InputError` where that fails."""
    with whole_file(path) as file:
        table.to_parquet(file, index=False)


def write_tables(table: pd.DataFrame, path: Path) -> list[Path]:
    """Write Parquet at ``path`` and, for people and MLflow, CSV beside it; return both paths.

    Raises:
        InputError: One cannot be written.
    """
    write_table(table, path)
    beside = path.with_suffix(".csv")
    write_file(beside, table.to_csv(index=False))
    return [path, beside]
