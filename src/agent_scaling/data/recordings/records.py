"""Walks a recording's records: tells its version, its terminal's size and its encoding."""

from __future__ import annotations

import bz2
import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from agent_scaling.data.recordings.base import BadGame
from agent_scaling.data.recordings.packed import DAMAGED, Readable, packing, unpacking
from agent_scaling.envs.screens import COLUMNS, ROWS

RECORD = struct.Struct("<III")  # seconds, microseconds, length; version 2 and 3 add a channel
LONGEST = 1 << 20
"""Bytes of one record; real ones have at most 5,000."""
HEAD = 1 << 16
"""Unpacked bytes from which a recording's version is told."""
KEYS, SCORES = 1, 2
"""Channels of versions 2 and 3, beside 0 of what was shown."""
MOVE = re.compile(
    rb"\x1b\[(\d{1,4});(\d{1,4})[Hf](?:\x1b\[[0-9;?]*[KJmzhl]|[\x0e\x0f])*([!-~\x80-\xff]?)"
)
"""A move of the cursor, what sets colours or clears after it, and the character written there."""
ROW = re.compile(rb"\x1b\[(\d{1,4})d(?:\x1b\[[0-9;?]*[GKJmzhl]|[\r\x0e\x0f])*[!-~\x80-\xff]")
"""A move of the cursor to a row alone, and a character written there."""
BOX = re.compile(rb"\xe2[\x94-\x97][\x80-\xbf]")
"""A line, block or shape of Unicode, as UTF-8 has it."""
WIDEST = 512
"""Columns of the widest terminal that is decoded."""


def walk(file: Readable, channels: bool) -> Iterator[tuple[int, bytes]]:
    """Yield each whole record's channel (0 where the format has none) and bytes.

    Raises ValueError for a header that no recorder writes.
    """
    length_of_header = RECORD.size + channels
    while len(header := file.read(length_of_header)) == length_of_header:
        _, micro, length = RECORD.unpack_from(header)
        channel = header[-1] if channels else 0
        if micro >= 1_000_000 or length > LONGEST or channel > SCORES:
            raise ValueError("a record's header is not one of a ttyrec")
        payload = file.read(length)
        if len(payload) < length:
            return
        yield channel, payload


def tell_version(path: Path) -> int | None:
    """Return the version, 1, 2 or 3, that a recording's first records have.

    None: it cannot be told, such as from a file that is damaged or short.
    """
    found = _channels_of(path)
    if len(found) != 1:
        return None
    if False in found:
        return 1 if found[False] else None
    return 3 if SCORES in found[True] else 2


def check_version(path: Path, name: str, version: int) -> None:
    """Raise :class:`BadGame` where a recording's first records cannot be of that version."""
    _check_first_record(path, name)
    found = _channels_of(path)
    with_channels = found.get(True, set())
    scored = KEYS not in with_channels or SCORES in with_channels
    fits = {1: False in found, 2: SCORES not in with_channels, 3: scored}[version]
    if len(found) == 1 and not (fits and (version > 1) in found):
        raise BadGame(f"{name} has records of version {tell_version(path)}, not {version}")


def _check_first_record(path: Path, name: str) -> None:
    """Raise :class:`BadGame` for a first record that nle's converter would take for gigabytes."""
    header = b""
    try:
        with bz2.open(path) as file:
            header = file.read(RECORD.size)
            if len(header) < RECORD.size or RECORD.unpack(header)[2] <= LONGEST:
                return
            while file.read(HEAD):  # a damaged block is known at its end, and unpacks until then
                pass
    except DAMAGED:
        if header:
            raise BadGame(f"{name} is a damaged bz2 file") from None
        return  # nle says what it makes of it
    raise BadGame(f"{name}: holds no records of a ttyrec, by its first bytes")


def _channels_of(path: Path) -> dict[bool, set[int]]:
    """Return the channels of the first records, read with and without channels, where they can."""
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            kind = packing(file.read(6))
            file.seek(0)
            head = unpacking(file, kind).read(HEAD)
    except DAMAGED:
        return {}
    found: dict[bool, set[int]] = {}
    for channels in (False, True):
        try:
            found[channels] = {channel for channel, _ in walk(BytesIO(head), channels)}
        except ValueError:
            continue
    return found


@dataclass(frozen=True)
class Terminal:
    """The terminal that a recording was made on."""

    rows: int = ROWS
    """The lowest row that it wrote to, 24 or more."""
    columns: int = COLUMNS
    """Its width, as far as the cursor went: 80, or more where it wrote there."""
    utf8: bool = False
    """True where it was sent UTF-8 beyond ASCII."""
    empty: bool = False
    """True where a record shows nothing; nle's converter takes it for the end."""


def terminal_of(path: Path) -> Terminal:
    """Read a bz2 recording of version 1 and return what it says of its terminal."""
    rows, columns, written, boxes, high = ROWS, COLUMNS, 0, False, bytearray()
    empty = False
    with contextlib.suppress(*DAMAGED), bz2.open(path) as file:  # nle reads what comes before
        for _, shown in walk(file, channels=False):
            for row, column, text in MOVE.findall(shown):
                columns = max(columns, int(column))
                if text:
                    rows, written = max(rows, int(row)), max(written, int(column))
            rows = max(rows, *map(int, ROW.findall(shown)), 0)
            empty = empty or not shown
            if not shown.isascii():
                boxes = boxes or BOX.search(shown) is not None
                high += shown
    width = min(columns, WIDEST) if written > COLUMNS else COLUMNS
    return Terminal(rows, width, boxes or _utf8(high), empty)


def _utf8(text: bytearray) -> bool:
    """Return True for UTF-8 that is not ASCII; CP437 and Latin-1 are hardly ever valid UTF-8."""
    try:
        return not text.isascii() and bool(text.decode())
    except UnicodeDecodeError:
        return False


def checked_terminal(path: Path, name: str) -> Terminal:
    """Return the terminal of a bz2 recording of version 1.

    Raises :class:`BadGame` for one that a game's frames cannot show.
    """
    terminal = terminal_of(path)
    if terminal.utf8:
        raise BadGame(f"{name} holds UTF-8: nle would spread each character over several cells")
    if terminal.rows > ROWS:
        raise BadGame(
            f"{name} writes to row {terminal.rows}: its terminal was larger than {ROWS} x {COLUMNS}"
        )
    return terminal


def without_empty_records(path: Path, to: Path) -> Path:
    """Write a copy of a bz2 recording of version 1, without the records that show nothing."""
    records = bytearray()
    with contextlib.suppress(*DAMAGED), bz2.open(path) as file:
        while len(header := file.read(RECORD.size)) == RECORD.size:
            shown = file.read(RECORD.unpack(header)[2])
            records += header + shown if shown else b""
    to.write_bytes(bz2.compress(records, 1))
    return to
