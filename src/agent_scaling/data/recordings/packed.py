"""Opens recordings by their content: bz2, gzip, xz or plain; checks and repacks them for nle."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from pathlib import Path
from typing import IO, Protocol

from agent_scaling.data.recordings.base import BadGame

END_OF_BZ2 = 0x177245385090  # magic of the footer, followed by 32 bits of checksum and padding
BLOCK_OF_BZ2 = bytes.fromhex("314159265359")
STREAM_OF_BZ2 = re.compile(rb"BZh[1-9]" + re.escape(BLOCK_OF_BZ2))
UNPACKED_PER_BYTE, UNPACKED = 10_000, 1 << 26
"""Limits on the bytes that bz2 unpacks to: an allowance per byte of the file, plus a constant. Real
games have 7 to 21 unpacked bytes per byte."""
LENGTH_PER_BYTE = 200
"""The same limit for gzip, xz and several streams of bz2, whose size only unpacking tells."""
PACKED = {b"BZh": "bz2", b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz"}
UNREAD = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"\x1f\x9d": "compress",
    b"\x5d\x00\x00": "lzma",
}
"""Packings that are named and not read."""
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


class Readable(Protocol):
    """A file or a stream of what one holds."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next ``size`` bytes, or fewer at the end."""
        ...

    def readline(self, size: int = -1, /) -> bytes:
        """Return the next line, or ``size`` bytes of it."""
        ...


def packing(data: bytes) -> str:
    """Return the packing that a file's first bytes name: bz2, gzip, xz or plain."""
    return next((name for magic, name in PACKED.items() if data.startswith(magic)), "plain")


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


def is_read_by_nle(data: bytes) -> bool:
    """Return True for one stream of bz2.

    Of several, as pbzip2 writes them and as appended files have them, nle's converter reads the
    first, and says nothing.
    """
    return packing(data) == "bz2" and STREAM_OF_BZ2.search(data, 1) is None


def read_recording(path: Path) -> bytes:
    """Read a recording's file and return it as one stream of bz2, which nle's converter reads.

    Raises :class:`BadGame` for a file that is empty, cut or unpacks to too much.
    """
    size = path.stat().st_size  # 0 for a device or pipe, which could be read without end
    if not size:
        raise BadGame("the file is empty")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadGame(f"{path.name} cannot be read: {error.strerror}") from None
    kind = packing(data)
    if data.endswith(b"\0") and (kind == "xz" or (kind == "bz2" and not bz2_is_complete(data))):
        data = _without_padding(data, kind)
    too_much = BadGame(f"{path.name} would unpack to more than a recording of its size can be")
    if kind == "bz2" and not bz2_is_complete(data):
        raise BadGame(f"{path.name} is cut or is not a bz2 file")
    if is_read_by_nle(data):
        if bz2_unpacks_to(data) > UNPACKED + UNPACKED_PER_BYTE * size:
            raise too_much
        return data
    most = UNPACKED + LENGTH_PER_BYTE * size
    try:
        unpacked = unpacking(io.BytesIO(data), kind).read(most + 1)
    except DAMAGED as error:
        raise BadGame(f"{path.name} is a cut or damaged {kind} file: {error}") from None
    if len(unpacked) > most:
        raise too_much
    inside = next((n for magic, n in (PACKED | UNREAD).items() if unpacked.startswith(magic)), None)
    if inside:
        raise BadGame(f"{path.name} holds {inside} data: unpack it, or repack it as gzip")
    return bz2.compress(unpacked, 1)


def _without_padding(data: bytes, kind: str) -> bytes:
    """Return a packed file's data without the zeros that tapes and copies pad it with."""
    bare = data.rstrip(b"\0")
    if kind == "xz":
        return bare
    # The last byte of bz2's checksum may be zero, too.
    ends = (bare + bytes(spare) for spare in range(6))
    return next((end for end in ends if bz2_is_complete(end)), data)


def unpacking(file: IO[bytes], kind: str) -> Readable:
    """Return a stream of what a file of that packing holds."""
    match kind:
        case "bz2":
            return bz2.BZ2File(file)
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "xz":
            return lzma.LZMAFile(file)
    return file
