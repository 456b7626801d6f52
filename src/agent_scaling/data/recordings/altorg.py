"""Reader of NLD-NAO's layout (alt.org): a folder per player, games in parts, xlogfiles on top."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nle.dataset import db, populate_db

from agent_scaling.data.recordings.altorg_copy import copy_altorg
from agent_scaling.data.recordings.base import Discovery, Game, Metadata, RawFrames, Skipped, Source
from agent_scaling.data.recordings.ttyrec import decode_parts

PARTS = """
    SELECT ttyrecs.path, games.* FROM ttyrecs
    JOIN datasets USING (gameid) JOIN games USING (gameid)
    ORDER BY gameid, part
"""


class AltorgSource(Source):
    """Human games of alt.org: ttyrec 1, without keys or scores.

    ``nle.dataset`` itself assigns parts to games, by comparing the files' times with the xlogfiles'
    start and end times. The games are therefore those of everybody else's NLD-NAO.
    """

    name = "altorg"

    def discover(self, root: Path) -> Discovery:
        """Find the games under ``root``; identity is ``<player>/<first part's time>``."""
        with tempfile.TemporaryDirectory() as folder:
            copy = copy_altorg(root, Path(folder, "altorg"))
            rows = _ask_nle(Path(folder, "altorg"), str(Path(folder) / "ttyrecs.db"))
        parts: dict[int, list[str]] = {}
        metadata: dict[int, Metadata] = {}
        for row in rows:
            parts.setdefault(row["gameid"], []).append(copy.files[row["path"]])
            metadata[row["gameid"]] = {
                name: row[name] for name in row.keys()[2:] if row[name] not in (-1, "-1")
            }
        games = [_game(root, tuple(parts[number]), metadata[number]) for number in parts]
        taken = {part for game in games for part in game.parts}
        lost = [
            Skipped(part, "belongs to no game") for part in sorted(set(copy.files.values()) - taken)
        ]
        skipped = sorted([*copy.skipped, *lost], key=lambda one: one.file)
        return Discovery(tuple(sorted(games, key=lambda game: game.identity)), tuple(skipped))

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Yield the frames of all parts; see :class:`agent_scaling.data.recordings.base.Source`."""
        return decode_parts([root / part for part in game.parts], game.version, chunk_frames)

    def opening(self, game: Game, head: RawFrames) -> int:
        """Return 0; never called, because these games have no keys."""
        return 0

    def closing(self, game: Game, tail: RawFrames) -> int:
        """Return 0; never called, because these games have no keys."""
        return 0


def _ask_nle(root: Path, filename: str) -> list[sqlite3.Row]:
    """Let nle index the directory in a temporary database; return rows (path, game's columns)."""
    with contextlib.redirect_stdout(io.StringIO()):  # nle prints its progress to stdout
        db.create(filename)
        populate_db.add_altorg_directory(str(root), "altorg", filename=filename)
    with contextlib.closing(sqlite3.connect(filename)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(PARTS).fetchall()


def _game(root: Path, parts: tuple[str, ...], metadata: Metadata) -> Game:
    sizes = tuple((root / part).stat().st_size for part in parts)
    identity = parts[0].split(".ttyrec")[0]
    return Game(identity=identity, parts=parts, sizes=sizes, version=1, metadata=metadata)
