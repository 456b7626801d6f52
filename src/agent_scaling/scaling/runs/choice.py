"""Reads a CSV as other programs write it, and chooses one table's rows from those of several."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from agent_scaling.envs.versions import COLUMNS as PLAYED
from agent_scaling.runtime.errors import InputError

LETTERS = 40
"""Most letters of a cell in a message."""
MOST_TABLES = 20
"""Most values of a column of text that tells several tables in one file apart."""
SEPARATORS = ";\t|"
"""Marks that other programs put between cells."""

PARTIAL = "partial"
"""Column that marks the rows of several files, which complete each other."""

TOLD = re.compile(r"(.*_)?(data_?set|corpus|data|experiment|project|domain|task|group)(_id)?")
"""Headings of columns that tell tables apart even by numbers."""

MOST_COLUMNS = 10_000
"""Most columns of a table; far more take minutes to read."""

SHOWN = 12
"""Most headings in a message."""


def read_file(path: Path) -> pd.DataFrame:
    """Read the rows of a CSV; spaces around headings and before cells mean nothing.

    Raises:
        InputError: The file cannot be read, its cells are not separated by commas, a row has more
            cells than there are headings, or a heading occurs twice.
    """
    if path.exists() and not path.is_file():  # it is read twice, which a pipe cannot be
        raise InputError(f"path={path}: is no file")
    options: dict[str, Any] = {"skipinitialspace": True, "index_col": False}
    try:
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0]
        if len(first) > MOST_COLUMNS:
            raise InputError(f"path={path}: has {len(first):,} columns; keep those of the runs")
        named = first.dropna().str.strip()
        if len(named) == 1 and any(mark in named.iloc[0] for mark in SEPARATORS):
            seen = cut(named.iloc[0], LETTERS)
            raise InputError(f"path={path}: its cells are not separated by commas: {seen!r}")
        with warnings.catch_warnings():
            # of rows with more cells than headings, which pandas cuts otherwise
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(path, low_memory=False, **options)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise InputError(f"path={path}: not a readable CSV ({error})") from error
    table.columns = table.columns.map(str).str.strip()
    every = table.columns  # pandas numbers equal headings, and reads some as none above
    if twice := [*named[named.duplicated()], *every[every.duplicated()]]:
        raise InputError(
            f"path={path}: has the heading {cut(twice[0], LETTERS)} twice; rename or remove one"
        )
    return table


def headings(table: pd.DataFrame) -> list[str]:
    """Return the first headings of a table, for a message."""
    return listing((name for name in table.columns if name != PARTIAL), SHOWN)


def listing(values: Iterable[object], most: int = MOST_TABLES) -> list[str]:
    """Return the beginnings of the first of a file's headings or cells, for a message."""
    every = list(map(str, values))
    return [*(cut(text, LETTERS) for text in every[:most]), *(["…"] if len(every) > most else [])]


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
            raise InputError(f"columns.{ours}={theirs}: {path} has the columns {headings(table)}")
        others = [name for name in known.get(ours, ()) if name in table and name != theirs]
        table = table.drop(columns=others).rename(columns={theirs: known.get(ours, (ours,))[0]})
    return table


def _selected(table: pd.DataFrame, where: Mapping[str, object], path: Path) -> pd.DataFrame:
    for name, value in where.items():
        if name not in table:
            raise InputError(f"where={{{name}: {value}}}: {path} has the columns {headings(table)}")
        if value is None:
            continue
        chosen = table[table[name].map(str) == str(value)]
        if chosen.empty:
            known = listing(texts(table[name]))
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
    axes = [[name for name in columns[ours] if name in table][:1] for ours in ("flops", "params")]
    cell = [name for names in [*axes, ["seed"]] for name in names if name in table]
    if not all(axes):
        return
    for name in table.columns.difference(list(known)):
        values = table[name]
        told = TOLD.fullmatch(name.lower()) is not None
        numbers = pd.api.types.is_numeric_dtype(values) and values.dtype != bool
        if numbers and not told:
            continue
        count = values.nunique(dropna=not told)  # a table's rows may have none
        if not 1 < count <= (len(values) if told else MOST_TABLES):
            continue
        if (table.groupby(cell, dropna=False)[name].nunique(dropna=not told) > 1).any():
            short, found = cut(name), listing(texts(values))
            raise InputError(
                f"path={path}: rows of one budget and size differ in {short}: choose one with "
                f"where={{{short}: VALUE}} of {found}, or average them "
                f"with where={{{short}: null}}"
            )


def cut(text: str, most: int = 200) -> str:
    """Return the beginning of a heading or a cell, which may hold a whole file."""
    return text if len(text) <= most else f"{text[:most]} …"
