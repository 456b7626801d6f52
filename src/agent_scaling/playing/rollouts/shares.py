"""Divides an evaluation over jobs: writes the parts of its table, and merges them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_scaling.playing.rollouts.tables import write_table
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_json
from agent_scaling.runtime.jobs import FOLDER, Part

if TYPE_CHECKING:
    import pandas as pd


def write_part(part: Part, table: pd.DataFrame, settings: dict[str, Any], folder: Path) -> None:
    """Write a part for :func:`merge_parts`: its settings, then its episodes."""
    path = part.table(folder)
    write_json(path.with_suffix(".json"), settings)
    write_table(table, path)


def parts_in(folder: Path) -> list[Part]:
    """Return the complete parts, by number.

    Raises:
        InputError: The folder holds other files, or parts of two divisions.
    """
    found = []
    for path in (folder / FOLDER).glob("*.parquet"):
        number, _, count = path.stem.partition("-of-")
        if not (number.isdecimal() and count.isdecimal()):
            raise InputError(f"{path}: is no part of an evaluation; move it away")
        found.append(Part(int(number), int(count)))
    found.sort(key=lambda part: (part.number, part.count))
    for part in found:
        check_same_division(folder, found[0], part)
    return found


def check_same_division(folder: Path, one: Part, other: Part) -> None:
    """Raise :class:`InputError` for parts of different divisions, such as 1/3 and 1/8."""
    if one.count != other.count:
        raise InputError(
            f"{folder / FOLDER}: parts {one} and {other} overlap; remove one, or change output="
        )


def merge_parts(folder: Path, settings: dict[str, Any], seeds: Sequence[int]) -> pd.DataFrame:
    """Merge the parts in ``folder`` into the table of all seeds, in their order.

    Args:
        folder: The evaluation's output.
        settings: Settings of the evaluation; each part's must be the same.
        seeds: All of its seeds.

    Raises:
        InputError: A part is missing, overlaps with another, or has other settings.
    """
    import pandas as pd  # jobs that only play need not wait for the import

    parts = parts_in(folder)
    if not parts:
        raise InputError(f"{folder / FOLDER}: no parts; run shard=1/8 and so on first")
    count = parts[0].count
    missing = sorted(set(range(1, count + 1)) - {part.number for part in parts})
    if missing:
        names = ", ".join(f"{number}/{count}" for number in missing)
        raise InputError(f"{folder / FOLDER}: missing {names}; run them with shard=")
    tables = []
    for part in parts:
        path = part.table(folder)
        _check_settings(path.with_suffix(".json"), settings)
        table = pd.read_parquet(path)
        if table["seed"].tolist() != list(part.share(seeds)):
            raise InputError(f"{path}: holds other seeds than part {part}; play it again")
        tables.append(table)
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    order = {seed: index for index, seed in enumerate(seeds)}
    return rows.sort_values("seed", key=lambda column: column.map(order), ignore_index=True)


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    try:
        theirs = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); play this part again") from error
    for key in sorted({*settings, *theirs}):
        if theirs.get(key) != settings.get(key):
            raise InputError(
                f"{path}: was played with {key}={theirs.get(key)}, not {settings.get(key)}; "
                "play it again, or give the same settings"
            )
