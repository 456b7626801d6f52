"""Chooses one table's rows from a file that holds those of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from agent_scaling.envs.versions import COLUMNS as PLAYED
from agent_scaling.runtime.errors import InputError

LETTERS = 40
"""Most letters of a cell in a message."""
MOST_TABLES = 20
"""Most values of a column of text that tells several tables in one file apart."""


def choose(
    table: pd.DataFrame,
    where: Mapping[str, object],
    path: Path,
    columns: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Return the rows whose columns have the values of ``where``.

    Args:
        table: A file's rows.
        where: Column → its value; None takes any.
        path: The file, for messages.
        columns: Our names of columns, each with a table's names for it.

    Raises:
        InputError: There is no such column or value, or another column of text tells tables apart.
    """
    table = _selected(table, where, path)
    _check_one_table(table, where, path, columns)
    return table


def rename(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    path: Path,
    known: Mapping[str, tuple[str, ...]],
) -> pd.DataFrame:
    """Give a table's columns our names; what else would be read under such a name is left out.

    Args:
        table: A table as it was read.
        columns: Our name → the table's.
        path: Its file, for messages.
        known: Our names, each with those that are read without being told.

    Raises:
        InputError: One of ours is unknown, or the table has no such column.
    """
    for ours, theirs in columns.items():
        if ours not in (*known, "game"):
            raise InputError(f"columns.{ours}: unknown; use one of game, {', '.join(known)}")
        if theirs not in table:
            raise InputError(f"columns.{ours}={theirs}: {path} has the columns {list(table)}")
        others = [name for name in known.get(ours, ()) if name in table and name != theirs]
        table = table.drop(columns=others).rename(columns={theirs: known.get(ours, (ours,))[0]})
    return table


def _selected(table: pd.DataFrame, where: Mapping[str, object], path: Path) -> pd.DataFrame:
    for name, value in where.items():
        if name not in table:
            raise InputError(f"where={{{name}: {value}}}: {path} has the columns {list(table)}")
        if value is None:
            continue
        chosen = table[table[name].map(str) == str(value)]
        if chosen.empty:
            known = texts(table[name])[:MOST_TABLES]
            raise InputError(f"where={{{name}: {value}}}: not in {path}; use one of {known}")
        table = chosen
    return table


def texts(column: pd.Series) -> list[str]:
    """Return the distinct values of a column as text, sorted, without blank cells."""
    return sorted(set(map(str, column.dropna())))


def _check_one_table(
    table: pd.DataFrame,
    where: Mapping[str, object],
    path: Path,
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Raise :class:`InputError` where cells have rows of several values of a column of text."""
    known = {"game", *PLAYED, *where, *(name for names in columns.values() for name in names)}
    found = [[name for name in columns[ours] if name in table][:1] for ours in ("flops", "params")]
    cell = [name for names in [*found, ["seed"]] for name in names if name in table]
    if not all(found):
        return
    for name in table.columns.difference(list(known)):
        values = table[name].dropna()
        if pd.api.types.is_numeric_dtype(values) or not 1 < values.nunique() <= MOST_TABLES:
            continue
        if (table.groupby(cell, dropna=False)[name].nunique() > 1).any():
            short, known_values = cut(name), [cut(text, LETTERS) for text in texts(values)]
            raise InputError(
                f"path={path}: rows of one budget and size differ in {short}: choose one with "
                f"where={{{short}: VALUE}} of {known_values}, or average them "
                f"with where={{{short}: null}}"
            )


def cut(text: str, most: int = 200) -> str:
    """Return the beginning of a heading or a cell, which may hold a whole file."""
    return text if len(text) <= most else f"{text[:most]} …"
