"""Chooses the measure of episodes that a fit takes as the return; says which games are mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_scaling.envs.versions import COLUMNS as PLAYED
from agent_scaling.envs.versions import mixed
from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.runs.table import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

RETURN = "return"


def take_measure(table: pd.DataFrame, measure: str, origin: str) -> pd.DataFrame:
    """Return a table of runs whose return is another measure, and which has no other return.

    Args:
        table: A table of runs.
        measure: ``return``, which changes nothing, or a name such as ``progression``: its mean is
            the table's ``progression_mean``, ``progression`` or ``rollout/progression_mean``.
        origin: The table's origin, for the message.

    Raises:
        InputError: The table lacks the measure.
    """
    if measure == RETURN:
        return table
    means = [name.replace(RETURN, measure) for name in COLUMNS["return"]]
    mean = next((name for name in means if name in table), None)
    if mean is None or table[mean].isna().all():
        raise InputError(f"measure={measure}: {origin} has none of the columns {', '.join(means)}")
    errors = (name.replace(RETURN, measure) for name in COLUMNS["return_se"])
    error = next((name for name in errors if name in table), None)
    taken = {"return_mean": table[mean]} | ({"return_se": table[error]} if error else {})
    others = [n for key in ("return", "return_se", "expert") for n in COLUMNS[key] if n in table]
    return table.drop(columns=others).assign(**taken)


def mixed_versions(table: pd.DataFrame) -> list[str]:
    """Return a flag for each kind of games, learnt and played, whose versions differ in a table."""
    lines = {what: mixed(table[name]) for name, what in PLAYED.items() if name in table}
    return [f"mixed versions: games {what} by {line}" for what, line in lines.items() if line]
