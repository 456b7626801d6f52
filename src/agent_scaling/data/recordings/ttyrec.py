"""Reader of NLD-AA's layout: ``nle.<pid>.<episode>.ttyrec<version>.bz2`` beside xlogfiles."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nle import _pyconverter

from agent_scaling.data.recordings.base import (
    BadGame,
    Discovery,
    Game,
    Metadata,
    RawFrames,
    Skipped,
    Source,
)
from agent_scaling.data.recordings.decisions import closing_frames, opening_frames
from agent_scaling.data.recordings.xlogfile import by_ttyrec
from agent_scaling.envs.screens import COLUMNS, ROWS

TTYREC = re.compile(r"(?P<stem>.+)\.ttyrec(?P<version>[123]?)\.bz2")
XLOGFILE = "*.xlogfile"

END_OF_BZ2 = 0x177245385090  # magic of the footer, followed by 32 bits of checksum and padding
BLOCK_OF_BZ2 = bytes.fromhex("314159265359")
UNPACKED_PER_BYTE, UNPACKED = 10_000, 1 << 26
FRAMES_PER_BYTE, FRAMES = 16, 1 << 15
"""Limits on unpacked bytes and on frames: an allowance per byte of the file, plus a constant. Real
games have 7 to 21 unpacked bytes and 0.04 frames per byte."""


def bz2_is_complete(data: bytes) -> bool:
    """Return True for a bz2 file that ends with the format's footer.

    The check is needed because nle's converter reads a cut file silently. The footer is aligned to
    bits, so it ends 0 to 7 bits before the file does.
    """
    tail = int.from_bytes(data[-11:])
    return any((tail >> (32 + pad)) & (2**48 - 1) == END_OF_BZ2 for pad in range(8))


def bz2_unpacks_to(data: bytes) -> int:
    """Return an upper bound of the bytes that a bz2 file unpacks to, without unpacking it.

    A block holds 100 to 900 kB, in which 5 bytes may stand for 259 equal ones; it may begin at any
    bit.
    """
    blocks, number = 0, int.from_bytes(data)
    for shift in range(8):
        blocks += (number >> shift).to_bytes(len(data)).count(BLOCK_OF_BZ2)
    level = int(data[3:4]) if data[3:4].isdigit() else 9
    return blocks * level * 100_000 * 259 // 5


def decode_parts(paths: list[Path], version: int, chunk_frames: int) -> Iterator[RawFrames]:
    """Yield the frames of a game's parts one after another, through nle's converter.

    Each file's last record is left out, as in ``nle.dataset.TtyrecDataset``.
    """
    most = sum(_check_file(path) for path in paths)
    converter = _pyconverter.Converter(ROWS, COLUMNS, version)
    remaining = list(paths)
    converter.load_ttyrec(str(remaining.pop(0)), gameid=1, part=0)
    while True:
        chunk, cursor = _empty(chunk_frames), np.empty((chunk_frames, 2), np.int16)
        chars, colors = chunk.shown["chars"], chunk.shown["colors"]
        stamp = np.empty(chunk_frames, np.int64)
        filled = 0
        while True:
            rest = converter.convert(
                chars[filled:],
                colors[filled:],
                cursor[filled:],
                stamp[filled:],
                chunk.key[filled:],
                chunk.score[filled:],
            )
            filled = chunk_frames - rest
            if rest == 0 or not remaining:
                break
            converter.load_ttyrec(str(remaining.pop(0)), gameid=1, part=len(paths))
        chunk.shown["cursor"][:] = cursor
        most -= filled
        if most < 0:
            raise BadGame("it has more frames than a recording of its size can hold")
        if filled:
            yield chunk[:filled]
        if filled < chunk_frames:
            return


def _check_file(path: Path) -> int:
    """Return the most frames that one part of a game may have.

    Raises :class:`BadGame` for a file that is not a whole recording.
    """
    size = path.stat().st_size  # 0 for a device or pipe, which could be read without end
    if not size:
        raise BadGame("the file is empty")
    data = path.read_bytes()
    if not bz2_is_complete(data):
        raise BadGame(f"{path.name} is cut or is not a bz2 file")
    if bz2_unpacks_to(data) > UNPACKED + UNPACKED_PER_BYTE * size:
        raise BadGame(f"{path.name} would unpack to more than a recording of its size can be")
    return FRAMES + FRAMES_PER_BYTE * size


def _leads_back(folder: Path) -> bool:
    """Return True for a link to one of its own parent folders, which would be walked endlessly."""
    return folder.is_symlink() and folder.resolve() in (p.resolve() for p in folder.parents)


def _empty(n: int) -> RawFrames:
    return RawFrames(
        shown={
            "chars": np.empty((n, ROWS, COLUMNS), np.uint8),
            "colors": np.empty((n, ROWS, COLUMNS), np.int8),
            "cursor": np.empty((n, 2), np.uint8),
        },
        key=np.zeros(n, np.uint8),
        score=np.zeros(n, np.int32),
    )


class TtyrecSource(Source):
    """Games as NLE records them (NLD-AA, our demonstrators): one ttyrec per game."""

    name = "nld_aa"

    def __init__(self, require_metadata: bool = True) -> None:
        """With ``require_metadata``, skip each ttyrec that no xlogfile line names."""
        self.require_metadata = require_metadata

    def discover(self, root: Path) -> Discovery:
        """Find ttyrecs anywhere under ``root``; identity is ``<directory>/nle.<pid>.<episode>``."""
        games: dict[str, Game] = {}
        skipped: list[Skipped] = []
        for folder, folders, files in os.walk(root, followlinks=True):
            folders[:] = [name for name in sorted(folders) if not _leads_back(Path(folder, name))]
            for item in self._folder(root, Path(folder), sorted(files)):
                if isinstance(item, Skipped):
                    skipped.append(item)
                elif item.identity in games:
                    other = games[item.identity].parts[0]
                    skipped.append(Skipped(item.parts[0], f"same game as {other}"))
                else:
                    games[item.identity] = item
        return Discovery(tuple(games[name] for name in sorted(games)), tuple(skipped))

    def _folder(self, root: Path, folder: Path, files: list[str]) -> Iterator[Game | Skipped]:
        """Yield the games and the skipped files of one directory."""
        lines: dict[str, Metadata] = {}
        for path in (folder / name for name in files if name.endswith(".xlogfile")):
            named = by_ttyrec(path)
            lines |= named
            if missing := sorted(set(named) - set(files)):
                what = f"no ttyrec for {len(missing)} of its {len(named)} games: {missing[0]}"
                yield Skipped(str(path.relative_to(root)), what)
        for name in files:
            if match := TTYREC.fullmatch(name):
                path = folder / name
                file = str(path.relative_to(root))
                if name not in lines and self.require_metadata:
                    yield Skipped(
                        file, "no xlogfile line names it (require_metadata=false uses it)"
                    )
                    continue
                yield Game(
                    identity=f"{folder.absolute().name}/{match['stem']}",
                    parts=(file,),
                    sizes=(path.stat().st_size,),
                    version=int(match["version"] or 1),
                    metadata=lines.get(name, {}),
                )

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Yield the frames; see :class:`agent_scaling.data.recordings.base.Source`."""
        return decode_parts([root / part for part in game.parts], game.version, chunk_frames)

    def opening(self, game: Game, head: RawFrames) -> int:
        """Return the number of frames that NLE's ``reset`` answered, at the start."""
        return opening_frames(head.shown["chars"], head.key)

    def closing(self, game: Game, tail: RawFrames) -> int:
        """Return the number of frames after the player's last decision, at the end."""
        return closing_frames(tail.shown["chars"], tail.key)
