"""Reader of NLD-AA's layout: ``nle.<pid>.<episode>.ttyrec<version>.bz2`` beside xlogfiles.

A recording may also lie there unpacked, or packed as gzip or xz.
"""

from __future__ import annotations

import bz2
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nle import _pyconverter

from agent_scaling.data.recordings.base import (
    BadGame,
    Discovery,
    Game,
    Metadata,
    RawFrames,
    Skipped,
    Source,
    is_left_packed,
    readable,
)
from agent_scaling.data.recordings.decisions import closing_frames, opening_frames
from agent_scaling.data.recordings.inventory import with_inventory
from agent_scaling.data.recordings.known_seeds import own_seeds, read_seeds
from agent_scaling.data.recordings.packed import read_recording
from agent_scaling.data.recordings.records import (
    RECORD,
    check_version,
    checked_terminal,
    tell_version,
    without_empty_records,
)
from agent_scaling.data.recordings.xlogfile import by_ttyrec
from agent_scaling.data.shards.layout import NETHACK, NETHACK_INVENTORY
from agent_scaling.envs.screens import COLUMNS, ROWS

TTYREC = re.compile(
    r"(?P<bare>(?P<stem>.+)\.ttyrec(?P<version>[123]?))(\.[A-Za-z0-9]+)?", re.IGNORECASE
)
STATUS, STATUS_ROW = re.compile(rb"HP:-?\d+\(\d+\)"), ROWS - 4
"""Text that every variant's status line has, and the first row that it may stand in."""
MENU = re.compile(rb"dgamelaunch|NetHack, Copyright|Shall I pick|Quit|username|assword")
"""Text of dgamelaunch's menus and of NetHack's start."""
PLAIN_CHARACTERS = bz2.compress(2 * (RECORD.pack(0, 0, 4) + b"\x1b(B "))
NO_TTYREC = "holds no records of a ttyrec where nle's converter looks for them"
UNFINISHED = (".partial", ".part", ".tmp")

FRAMES_PER_BYTE, FRAMES = 16, 1 << 15
"""Limit on frames: an allowance per byte of the file, plus a constant. Real games have 0.04 frames
per byte."""


def decode_parts(paths: list[Path], version: int, chunk_frames: int) -> Iterator[RawFrames]:
    """Yield the frames of a game's parts one after another, through nle's converter.

    Each file's last record is left out, as in ``nle.dataset.TtyrecDataset``. Of version 1, which a
    server records, so are the frames of each part before NetHack's first status line: menus of
    dgamelaunch and NetHack's own start.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [_as_bz2(path, Path(folder, str(part))) for part, path in enumerate(paths)]
        most = sum(FRAMES + FRAMES_PER_BYTE * path.stat().st_size for path in paths)
        names = [path.name for path in paths]
        for file, name in zip(files, names, strict=True):
            check_version(file, name, version)
        width = COLUMNS
        for part in range(len(files)) if version == 1 else ():
            terminal = checked_terminal(files[part], names[part])
            width = max(width, terminal.columns)
            if terminal.empty:
                files[part] = without_empty_records(files[part], Path(folder, f"{part}.whole"))
        _forget_graphics(Path(folder, "reset"))
        any_frames = False
        try:
            for frames in _converted(files, version, chunk_frames, width, most, all_of_it=False):
                any_frames = True
                yield frames
        except RuntimeError as error:  # of the converter
            raise BadGame(f"{', '.join(names)}: {NO_TTYREC} ({error})") from None
        if not any_frames:
            raise BadGame(f"{', '.join(names)}: {NO_TTYREC}, or not more than one")


def _forget_graphics(path: Path) -> None:
    """Let nle's converter begin with plain characters, by a recording that asks for them.

    It keeps the choice of DEC's line graphics for the whole process: letters of a game would be
    lines if the game converted before it ended with them on.
    """
    path.write_bytes(PLAIN_CHARACTERS)
    converter = _pyconverter.Converter(ROWS, COLUMNS, 1)
    converter.load_ttyrec(str(path), gameid=1, part=0)
    frame = _empty(1)
    cursor, stamp = np.empty((1, 2), np.int16), np.empty(1, np.int64)
    shown = (frame.shown["chars"], frame.shown["colors"], cursor, stamp)
    converter.convert(*shown, frame.key, frame.score)


def _as_bz2(path: Path, unpacked: Path) -> Path:
    """Return a checked recording's path, or that of a bz2 copy where nle cannot read it itself."""
    data = read_recording(path)
    if path.read_bytes() == data:
        return path
    unpacked.write_bytes(data)
    return unpacked


def _converted(
    paths: list[Path], version: int, chunk_frames: int, width: int, most: int, all_of_it: bool
) -> Iterator[RawFrames]:
    """Yield the frames of bz2 files, of which the left 80 of ``width`` columns are kept.

    Frames of menus are left out, unless ``all_of_it``: of a recording in which there is neither a
    status line nor a menu, nobody knows what it is.

    Raises :class:`BadGame` at more than ``most`` frames, or where there are menus alone.
    """
    given = most
    converter = _pyconverter.Converter(ROWS, width, version)
    remaining = list(paths)
    converter.load_ttyrec(str(remaining.pop(0)), gameid=1, part=0)
    menus, waits, any_left = 0, version == 1 and not all_of_it, False
    any_menu = False
    while True:
        chunk, cursor = _empty(chunk_frames), np.empty((chunk_frames, 2), np.int16)
        chars, colors = chunk.shown["chars"], chunk.shown["colors"]
        if width > COLUMNS:
            chars = np.empty((chunk_frames, ROWS, width), np.uint8)
            colors = np.empty((chunk_frames, ROWS, width), np.int8)
        arrays = (chars, colors, cursor, np.empty(chunk_frames, np.int64), chunk.key, chunk.score)
        filled = 0
        while True:
            rest = converter.convert(*(array[filled:] for array in arrays))
            end = chunk_frames - rest
            most -= end - filled
            if most < 0:
                raise BadGame("it has more frames than a recording of its size can hold")
            if waits:
                begin = first_of_game(chars[filled:end])
                screens = chars[filled : filled + begin]
                any_menu = any_menu or any(MENU.search(screen.tobytes()) for screen in screens)
                waits, menus = begin == end - filled, menus + begin
                for array in arrays:
                    array[filled : end - begin] = array[filled + begin : end]
                end -= begin
            filled = end
            if rest:  # the file is at its end
                if not remaining:
                    break
                converter.load_ttyrec(str(remaining.pop(0)), gameid=1, part=len(paths))
                waits = version == 1 and not all_of_it
            elif filled == chunk_frames:
                break
        _show(chunk, chars, colors, cursor)
        if filled:
            chunk.menus, menus, any_left = menus, 0, True
            yield chunk[:filled]
        if filled < chunk_frames:
            break
    if any_left or not menus:
        return
    if any_menu:
        raise BadGame(f"it holds menus alone: none of its {menus} frames has a status line")
    yield from _converted(paths, version, chunk_frames, width, given, all_of_it=True)


def _show(
    chunk: RawFrames,
    chars: npt.NDArray[np.uint8],
    colors: npt.NDArray[np.int8],
    cursor: npt.NDArray[np.int16],
) -> None:
    """Fill a chunk with the left 80 columns of a terminal's screens."""
    if chars.shape[-1] > COLUMNS:
        chunk.shown["chars"][:] = chars[..., :COLUMNS]
        chunk.shown["colors"][:] = colors[..., :COLUMNS]
        cursor[:, 1] = cursor[:, 1].clip(max=COLUMNS)
    chunk.shown["cursor"][:] = cursor


def first_of_game(chars: npt.NDArray[np.uint8]) -> int:
    """Return the first screen of [n, 24, width] with NetHack's status line; n where none has it."""
    found = (t for t, screen in enumerate(chars) if STATUS.search(screen[STATUS_ROW:].tobytes()))
    return next(found, len(chars))


def _bare(name: str) -> str:
    """Return a ttyrec's name without the suffix of its packing."""
    match = TTYREC.fullmatch(name)
    return match["bare"] if match else name


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

    def __init__(
        self, require_metadata: bool = True, inventory: bool = False, seeds: str | None = None
    ) -> None:
        """Choose what is read of the recordings.

        Args:
            require_metadata: Skip each ttyrec that no xlogfile line names.
            inventory: Add the inventory to the frames; skip games that have none
                (:mod:`agent_scaling.data.recordings.inventory`).
            seeds: CSV of games' seeds, by which they are replayed for their inventories.

        Raises:
            InputError: The table of seeds cannot be read.
        """
        self.require_metadata, self.inventory = require_metadata, inventory
        self.seeds = read_seeds(Path(seeds)) if seeds is not None else {}

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
        layout = NETHACK_INVENTORY if self.inventory else NETHACK
        return Discovery(tuple(games[name] for name in sorted(games)), tuple(skipped), layout)

    def _folder(self, root: Path, folder: Path, files: list[str]) -> Iterator[Game | Skipped]:
        """Yield the games and the skipped files of one directory."""
        matches = {name: match for name in files if (match := TTYREC.fullmatch(name))}
        bare = {match["bare"] for match in matches.values()}
        lines: dict[str, Metadata] = {}
        for path in (folder / name for name in files if name.endswith(".xlogfile")):
            named = {_bare(name): metadata for name, metadata in by_ttyrec(path).items()}
            lines |= named
            if missing := sorted(set(named) - bare):
                what = f"no ttyrec for {len(missing)} of its {len(named)} games: {missing[0]}"
                yield Skipped(readable(path.relative_to(root)), what)
        for name in files:
            path = folder / name
            file = str(path.relative_to(root))
            match = matches.get(name)
            if ".ttyrec" not in name.lower() or name.startswith("."):
                if is_left_packed(name):
                    yield Skipped(readable(file), "is an archive: unpack it")
                continue
            if match is None or name.endswith(UNFINISHED):
                yield Skipped(readable(file), "its name does not end as a recording's")
            elif readable(file) != file:
                yield Skipped(readable(file), "its path is not UTF-8: rename it")
            elif match["bare"] not in lines and self.require_metadata:
                why = "no xlogfile line names it (require_metadata=false uses it)"
                yield Skipped(file, why)
            elif not path.exists():
                yield Skipped(file, "is a link that leads nowhere")
            else:
                identity = f"{folder.absolute().name}/{match['stem']}"
                yield Game(
                    identity=identity,
                    parts=(file,),
                    sizes=(path.stat().st_size,),
                    version=int(match["version"] or 0) or tell_version(path) or 1,
                    metadata={**lines.get(match["bare"], {}), **self._seeds(identity, folder)},
                )

    def _seeds(self, identity: str, folder: Path) -> Metadata:
        """Return the seeds of a game, where inventories are asked for and they are known."""
        if not self.inventory:
            return {}
        return self.seeds.get(identity) or own_seeds(folder)

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Yield the frames; see :class:`agent_scaling.data.recordings.base.Source`."""
        chunks = decode_parts([root / part for part in game.parts], game.version, chunk_frames)
        return with_inventory(root, game, chunks) if self.inventory else chunks

    def opening(self, game: Game, head: RawFrames) -> int:
        """Return the number of frames that NLE's ``reset`` answered, at the start."""
        return opening_frames(head.shown["chars"], head.key)

    def closing(self, game: Game, tail: RawFrames) -> int:
        """Return the number of frames after the player's last decision, at the end."""
        return closing_frames(tail.shown["chars"], tail.key)
