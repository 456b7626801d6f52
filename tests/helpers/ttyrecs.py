"""Recordings for tests: links to whole real games, and real games with something wrong."""

from __future__ import annotations

import bz2
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from nle import dataset as nld

from agent_scaling.data.recordings.altorg import AltorgSource
from agent_scaling.data.recordings.base import Game

HEADER = struct.Struct("<iiiB")  # seconds, microseconds, length, channel
KEY = 1


def reference_games(reference: Path) -> list[Path]:
    """The directories of the reference games, shortest recording first."""
    folders = (reference / "nld-aa-mini" / "train" / "nle_data").iterdir()
    return sorted(folders, key=lambda folder: sum(f.stat().st_size for f in folder.iterdir()))


def link_games(folders: list[Path], root: Path) -> Path:
    """NLD-AA's layout under ``root`` with links to game directories."""
    (root / "nle_data").mkdir(parents=True)
    for folder in folders:
        (root / "nle_data" / folder.name).symlink_to(folder)
    return root


def people_games(reference: Path, root: Path) -> list[Game]:
    """NLD-NAO's layout under ``root``, with two real recordings, of 209 and 405 frames, in the
    place of empty ones; those two games."""
    theirs = reference / "reference" / "nle"
    shutil.copytree(theirs / "altorg", root)
    games = [game for game in AltorgSource().discover(root).games if len(game.parts) == 1][:2]
    names = ("2019-11-18.08_52_15", "2012-02-16.21_09_51")
    for game, name in zip(games, names, strict=True):
        part = root / game.parts[0]
        times = (part.stat().st_atime, part.stat().st_mtime)  # nle goes by them
        part.parent.chmod(0o755)
        part.unlink()
        shutil.copyfile(theirs / f"{name}.ttyrec.bz2", part)
        os.utime(part, times)
    return games


def copy_game(folder: Path, root: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A game directory called ``name`` whose ttyrec's bytes went through ``change``."""
    target = root / "nle_data" / name
    target.mkdir(parents=True)
    for file in folder.iterdir():
        data = file.read_bytes()
        (target / file.name).write_bytes(change(data) if file.suffix == ".bz2" else data)
    return target


def press(number: int, key: int) -> Callable[[bytes], bytes]:
    """A change: the ``number``-th recorded key becomes ``key``."""

    def change(data: bytes) -> bytes:
        raw = bytearray(bz2.decompress(data))
        at = seen = 0
        while True:
            _, _, length, channel = HEADER.unpack_from(raw, at)
            at += HEADER.size
            if channel == KEY:
                if seen == number:
                    raw[at] = key
                    return bz2.compress(bytes(raw))
                seen += 1
            at += length

    return change


def ttyrec_dataset(games: Path, database: Path, **options: object) -> nld.TtyrecDataset:
    """nle's own reader over a directory in NLD-AA's layout, in order."""
    nld.db.create(str(database))
    nld.add_nledata_directory(str(games / "nle_data"), "games", str(database))
    return nld.TtyrecDataset("games", dbfilename=str(database), shuffle=False, **options)
