"""Lays out for nle a copy of an alt.org folder, by links, without what nle cannot read.

nle compares times to assign recordings to games. It stops at one number that is none, reads a
blacklist's last line alone, knows bz2 by its suffix, and takes brackets in a path for a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nle.dataset import populate_db

from agent_scaling.data.recordings.base import Skipped, is_left_packed, readable
from agent_scaling.data.recordings.packed import (
    DAMAGED,
    LENGTH_PER_BYTE,
    packing,
    unpacking,
)
from agent_scaling.data.recordings.xlogfile import all_lines
from agent_scaling.runtime.errors import InputError

RECORDING = re.compile(r"(.+)\.ttyrec[123]?(\.[A-Za-z0-9]+)?", re.IGNORECASE)
UNFINISHED = (".partial", ".part", ".tmp")
SUFFIX = ".ttyrec.bz2"
BLACKLIST = "blacklist.txt"
NUMBERS = [name for name, kind in populate_db.XLOGFILE_COLUMNS if kind is int]
LARGEST = 1 << 63
"""sqlite's integers, in which nle keeps the numbers, lie below."""
SPARE = 1 << 20
"""Bytes that an xlogfile may unpack to beside an allowance per byte."""


@dataclass
class Copy:
    """The links of a copy, and the files and lines that were left out of it."""

    files: dict[str, str] = field(default_factory=dict)
    """Each link's path below the copy → the recording's path below the original."""
    skipped: list[Skipped] = field(default_factory=list)


def copy_altorg(root: Path, to: Path) -> Copy:
    """Lay out the folder ``root`` as ``to``.

    Raises:
        InputError: It has no xlogfile or no blacklist.
    """
    xlogfiles = sorted(root.glob("xlogfile.*"))
    if not xlogfiles:
        raise InputError(f"input={root}: no xlogfile.* in it; NLD-NAO's layout has them on top")
    copy = Copy()
    blacklist = _blacklist(root / BLACKLIST)
    to.mkdir()
    (to / BLACKLIST).touch()
    for number, path in enumerate(xlogfiles):  # nle numbers games by the files' order
        lines = _lines(path, copy.skipped)
        (to / f"xlogfile.{number:06d}").write_bytes(b"\n".join(lines))
    for player in sorted(root.iterdir()):
        if player.is_dir():
            _copy_player(player, to, blacklist, copy)
        elif is_left_packed(player.name):
            copy.skipped.append(Skipped(readable(player.name), "is an archive: unpack it"))
        elif ".ttyrec" in player.name.lower():
            why = "lies beside the players' folders: put it into its player's"
            copy.skipped.append(Skipped(readable(player.name), why))
    return copy


def _blacklist(path: Path) -> set[str]:
    """Return the recordings that are not to be used: ``player/time``, without suffixes."""
    if not path.is_file():
        raise InputError(f"{path} is missing or no file; an empty file will do")
    lines = path.read_bytes().decode(errors="surrogateescape").splitlines()
    # A server's list may have its own folders before a player's, and recordings before packing.
    names = ("/".join(line.strip().split("/")[-2:]) for line in lines)
    return {match[1] for name in names if (match := RECORDING.fullmatch(name))}


def _lines(path: Path, skipped: list[Skipped]) -> list[bytes]:
    """Return an xlogfile's lines as nle reads them, separated by tabs; name those it cannot."""
    kept = []
    for number, line in enumerate(_unpacked(path), 1):
        if line is None:
            wrong: str | None = "is longer than any game's line"
        else:
            tabs = (line if "\t" in line else line.replace(":", "\t")).strip()
            fields = dict(word.partition("=")[::2] for word in tabs.split("\t"))
            wrong = _wrong_number(fields)
        if wrong:
            skipped.append(Skipped(f"{readable(path.name)} line {number}", wrong))
        else:  # nle adds what follows ``while`` to a death that must be there
            lacks = "while" in fields and "death" not in fields
            kept.append((f"{tabs}\tdeath=" if lacks else tabs).encode("latin-1"))
    return kept


def _unpacked(path: Path) -> Iterator[str | None]:
    """Yield the lines of a file, packed or not; None for one that is longer than any game's.

    Raises:
        InputError: It is no file, is damaged, or unpacks to far more than games take.
    """
    if not path.is_file():
        raise InputError(f"{path}: is no file")
    left = SPARE + LENGTH_PER_BYTE * path.stat().st_size
    try:
        with path.open("rb") as file:
            kind = packing(file.read(6))
            file.seek(0)
            for line in all_lines(unpacking(file, kind)):
                left -= len(line or "") + 1
                if left < 0:
                    raise InputError(f"{path}: unpacks to more than an xlogfile of its size can be")
                yield line
    except DAMAGED as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _wrong_number(fields: Mapping[str, str]) -> str | None:
    for name in NUMBERS:
        try:
            fits = -LARGEST <= int(fields.get(name, -1)) < LARGEST
        except ValueError:
            return f"{name}={fields[name][:40]} is no whole number"
        if not fits:
            return f"{name}={fields[name][:40]} is too large"
    return None


def _copy_player(player: Path, to: Path, blacklist: set[str], copy: Copy) -> None:
    """Link one player's recordings."""
    links = to / player.name
    for path in sorted(player.iterdir()):
        name = f"{player.name}/{path.name}"
        if ".ttyrec" not in path.name.lower() or path.name.startswith("."):
            if is_left_packed(path.name):
                copy.skipped.append(Skipped(readable(name), "is an archive: unpack it"))
            elif path.is_dir() and any(".ttyrec" in file.name for file in path.iterdir()):
                why = "is a folder below a player's, whose recordings lie in the player's own"
                copy.skipped.append(Skipped(readable(name), why))
            continue
        match = RECORDING.fullmatch(path.name)
        if match is None or path.name.endswith(UNFINISHED):
            copy.skipped.append(Skipped(readable(name), "its name does not end as a recording's"))
            continue
        link = f"{player.name}/{match[1]}{SUFFIX}"
        if readable(name) != name:
            why = "its path is not UTF-8: rename it"
        elif f"{player.name}/{match[1]}" in blacklist:
            why = f"{BLACKLIST} names it"
        elif not path.exists():
            why = "is a link that leads nowhere"
        elif link in copy.files:
            why = f"same recording as {copy.files[link]}"
        else:
            links.mkdir(exist_ok=True)
            (to / link).symlink_to(path.absolute())
            copy.files[link] = name
            continue
        copy.skipped.append(Skipped(readable(name), why))
