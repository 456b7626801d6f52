"""NLD-AA's layout: directories of ``nle.<pid>.<episode>.ttyrec<version>.bz2`` with xlogfiles."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nle import _pyconverter

from agent_scaling.batch import COLUMNS, ROWS
from agent_scaling.sources.base import (
    BadGame,
    Discovery,
    Game,
    Metadata,
    RawFrames,
    Skipped,
    Source,
)
from agent_scaling.sources.decisions import closing_frames, opening_frames
from agent_scaling.sources.xlogfile import by_ttyrec

TTYREC = re.compile(r"(?P<stem>.+)\.ttyrec(?P<version>[123]?)\.bz2")
XLOGFILE = "*.xlogfile"

END_OF_BZ2 = 0x177245385090  # magic of the footer, followed by 32 bits of checksum and padding


def bz2_is_complete(path: Path) -> bool:
    """Whether a bz2 file ends with the format's footer: nle's converter reads a cut file silently.

    The footer is aligned to bits, so that it ends 0 to 7 bits before the file does.
    """
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 11))
        tail = int.from_bytes(file.read(), "big")
    return any((tail >> (32 + pad)) & (2**48 - 1) == END_OF_BZ2 for pad in range(8))


def decode_parts(paths: list[Path], version: int, chunk_frames: int) -> Iterator[RawFrames]:
    """The frames of a game's parts one after another, through nle's converter.

    Like ``nle.dataset.TtyrecDataset``, which leaves out each file's last record.
    """
    for path in paths:
        if not path.stat().st_size:
            raise BadGame("the file is empty")
        if not bz2_is_complete(path):
            raise BadGame(f"{path.name} is cut, or no bz2 file")
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
        if filled:
            yield chunk[:filled]
        if filled < chunk_frames:
            return


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
    """Games as NLE records them (NLD-AA, the demonstrators): one ttyrec per game."""

    name = "nld_aa"

    def __init__(self, require_metadata: bool = True) -> None:
        """``require_metadata``: skip a ttyrec that no xlogfile line names."""
        self.require_metadata = require_metadata

    def discover(self, root: Path) -> Discovery:
        """Find ttyrecs anywhere under ``root``; identity is ``<directory>/nle.<pid>.<episode>``."""
        games: dict[str, Game] = {}
        skipped: list[Skipped] = []
        for folder, folders, files in os.walk(root, followlinks=True):
            folders.sort()
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
        """Games and skipped files of one directory."""
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
        """See :class:`agent_scaling.sources.base.Source`."""
        return decode_parts([root / part for part in game.parts], game.version, chunk_frames)

    def opening(self, game: Game, head: RawFrames) -> int:
        """See :class:`agent_scaling.sources.base.Source`."""
        return opening_frames(head.shown["chars"], head.key)

    def closing(self, game: Game, tail: RawFrames) -> int:
        """See :class:`agent_scaling.sources.base.Source`."""
        return closing_frames(tail.shown["chars"], tail.key)
