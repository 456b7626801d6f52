"""Targets of recorded games: ``xlogfile`` and ``ttyrec``."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
from functools import partial
from pathlib import Path
from random import Random

from nle.dataset import populate_db

from agent_scaling.data.recordings.altorg_copy import BLACKLIST, copy_altorg
from agent_scaling.data.recordings.base import BadGame
from agent_scaling.data.recordings.records import tell_version
from agent_scaling.data.recordings.ttyrec import FRAMES, FRAMES_PER_BYTE, decode_parts
from agent_scaling.data.recordings.xlogfile import by_ttyrec
from tests.fuzz.mutations import mutate_bytes, mutate_lines
from tests.fuzz.target import Target

XLOG_WORDS = [b"points=", b"ttyrecname=", b"while=", b"death=", b"starttime=", b"conduct=0x", b"=",
              b"\t", b"\n", b"\r", b"\x0c", b"\x85", b":", b"-", b"0x", b"1_0", b" 7 ", b"9" * 30,
              b"\xff", b"\0", b"\xb2"]  # fmt: skip
RECORD = struct.Struct("<iiiB")
ESCAPES = [b"\x1b[H", b"\x1b[2J", b"\x1b[24;80H", b"\x1b[99;999H", b"\x1b[K", b"\x1b(0", b"\x0e",
           b"\x1b[1;31m", b"\x1b[999999999m", b"\r\n", b"\x1b[999C", b"\x1bM", b"\xe2\x94\x80",
           b"\x1b]0;", b"\x1b[38;5;9m", b"\x1b[5r", b"\x1b[;H", b"\x08" * 9]  # fmt: skip
PACKINGS = [
    *[partial(bz2.compress, compresslevel=1), bytes] * 6,  # higher levels take megabytes
    *[partial(gzip.compress, compresslevel=1)] * 3,
    partial(lzma.compress, preset=0),  # takes as long as all the rest
]
SHORT = 1500
"""Bytes of the records in a seed."""


def xlogfile_target(games: Path, scratch: Path) -> Target:
    """Any xlogfile, as NLE's and as alt.org's, up to the rows that nle's index takes."""
    folder = scratch / "xlogfile"
    root, to = folder / "altorg", folder / "copy"
    root.mkdir(parents=True)
    (root / BLACKLIST).touch()

    def read(data: bytes) -> None:
        (root / "xlogfile.1").write_bytes(data)
        for name, game in by_ttyrec(root / "xlogfile.1").items():
            assert str(game["ttyrecname"]) == name
        copy_altorg(root, to)
        try:
            for row in populate_db.game_data_generator(str(to / "xlogfile.000000"), separator="\t"):
                assert all(abs(value) < 1 << 63 for value in row if isinstance(value, int))
        finally:
            shutil.rmtree(to)

    seed = next(games.rglob("*.xlogfile")).read_bytes()
    seeds = [seed, seed.replace(b"\t", b":")]
    return Target(seeds, read, (), mutate_lines(XLOG_WORDS))  # any content is read


def ttyrec_target(games: Path, scratch: Path) -> Target:
    """Any recording of version 1, 2 or 3, in any packing, with what conversions catch."""
    path = scratch / "any.ttyrec"

    def read(data: bytes) -> None:
        version, packed = data[:2].ljust(2, b"\0")
        path.write_bytes(PACKINGS[packed % len(PACKINGS)](data[2:]))
        most = FRAMES + FRAMES_PER_BYTE * path.stat().st_size
        if packed & 128:  # it reads what decoding looks at once more
            tell_version(path)
        assert sum(map(len, decode_parts([path], version % 3 + 1, 50))) <= most

    records = bz2.decompress(next(games.rglob("*.ttyrec3.bz2")).read_bytes())
    three = records[: end_of(records, SHORT)]
    seeds = [bytes([version, 0]) + part for version, part in enumerate(versions(three))]
    caught = (BadGame, OSError, RuntimeError, ValueError)
    return Target(seeds, read, caught, mutate_ttyrec)


def end_of(records: bytes, most: int) -> int:
    """Return where the last whole record within ``most`` bytes ends."""
    at = 0
    while at + RECORD.size <= len(records):
        _, _, length, _ = RECORD.unpack_from(records, at)
        if at + RECORD.size + length > most:
            break
        at += RECORD.size + length
    return at


def versions(three: bytes) -> list[bytes]:
    """Return a recording of version 3 as those of version 1, 2 and 3."""
    found = [b"", b"", three]
    at = 0
    while at < len(three):
        seconds, micro, length, channel = RECORD.unpack_from(three, at)
        payload = three[at + RECORD.size : at + RECORD.size + length]
        if channel == 0:
            found[0] += struct.pack("<iii", seconds, micro, length) + payload
        if channel < 2:
            found[1] += RECORD.pack(seconds, micro, length, channel) + payload
        at += RECORD.size + length
    return found


def mutate_ttyrec(data: bytes, rng: Random) -> bytes:
    """Change the version, the packing, a record or what a record writes to the terminal."""
    head, body = data[:2].ljust(2, b"\0"), data[2:]
    match rng.randrange(5):
        case 0:
            return rng.randbytes(2) + body
        case 1:
            return head + mutate_bytes(body, rng)
        case _:
            shown = b"".join(rng.choices(ESCAPES, k=rng.randint(1, 6)))
            version = head[0] % 3 + 1
            fields = struct.pack("<iii", 1, rng.choice([0, -1, 5]), len(shown))
            record = fields + (b"" if version == 1 else bytes([rng.randrange(4)])) + shown
            at = record_starts(body, version, rng)
            return head + body[:at] + record + body[at:]


def record_starts(body: bytes, version: int, rng: Random) -> int:
    """Return where one of the records begins."""
    size = 12 + (version > 1)
    starts, at = [0], 0
    while at + size <= len(body):
        at += size + max(0, int.from_bytes(body[at + 8 : at + 12], "little", signed=True))
        starts.append(min(at, len(body)))
    return rng.choice(starts)
