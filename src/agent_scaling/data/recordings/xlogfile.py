"""Parser of NetHack's xlogfile: one line of ``key=value`` fields per finished game."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from agent_scaling.data.recordings.base import Metadata
from agent_scaling.data.recordings.packed import Readable
from agent_scaling.runtime.errors import InputError

NUMBER = re.compile(r"-?[0-9]{1,18}")
"""Whole decimal numbers that fit 64 bits."""
MOST_LINE_BYTES = 1 << 16
"""Most bytes of a game's line; NetHack writes about 500."""


def parse_line(line: str, separator: str = "\t") -> dict[str, str | int]:
    """Parse a line's fields; whole decimal numbers become int, hexadecimal ones stay strings.

    ``while`` is appended to ``death``, as in ``nle.dataset``: "killed by a newt while praying".
    """
    fields: dict[str, str | int] = {}
    for word in line.strip().split(separator):
        name, found, value = word.partition("=")
        if found:
            fields[name] = int(value) if NUMBER.fullmatch(value) else value
    if "while" in fields:
        fields["death"] = f"{fields.get('death', '')} while {fields['while']}"
    return fields


def by_ttyrec(path: Path) -> dict[str, Metadata]:
    """Map each ttyrec's name to its line of an xlogfile; lines without a ttyrec are left out.

    Raises :class:`InputError` for an unreadable file; any content is accepted.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"cannot read {path}: it is not a file")
    try:
        with path.open("rb") as file:
            games = [parse_line(line) for line in short_lines(file)]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return {str(game["ttyrecname"]): game for game in games if "ttyrecname" in game}


def short_lines(file: Readable) -> Iterator[str]:
    """Yield the lines of a file, without those that are longer than any game's."""
    return (line for line in all_lines(file) if line is not None)


def all_lines(file: Readable) -> Iterator[str | None]:
    """Yield the lines of a file, and None for each that is longer than any game's."""
    whole = True  # False within a line whose beginning was too long
    while line := file.readline(MOST_LINE_BYTES):
        ends = line.endswith(b"\n")
        if whole:
            fits = ends or len(line) < MOST_LINE_BYTES
            yield line.decode("latin-1").rstrip("\n") if fits else None
        whole = ends
