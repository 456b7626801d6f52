"""The storage interface of shards, and its implementation for a local folder."""

from __future__ import annotations

import os
import stat
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from agent_scaling.runtime.errors import InputError

T = TypeVar("T")

ChunkAt = tuple[int, int, int]
"""(offset in the tar, bytes, crc32) of a chunk."""

CACHE_DIR, CACHE_GB = "~/.cache/agent-scaling", 20.0
"""Default folder and size bound of the cache of remote shards; a GB is 10^9 bytes."""

PATIENCE_MINUTES = 25.0
"""Minutes for which an unreachable store is retried: fewer than the ranks' timeout of 30."""

MAX_FILE_BYTES = 1 << 28
"""Largest size of a manifest or an index: 256 MiB, which holds ten million skipped files."""


class Damaged(ValueError):  # noqa: N818  # callers turn it into an InputError with the file
    """The bytes differ from those written; the message is a verb phrase, such as "is cut"."""


class Storage(Protocol):
    """Access to the files of one set of shards by name; safe to share between threads."""

    readers: int
    """Number of threads that should read indexes concurrently."""

    def where(self, name: str) -> str:
        """Return a file's path or URL, for messages."""
        ...

    def read(self, name: str, parse: Callable[[bytes], T], digest: str = "") -> T:
        """Read and parse a small file.

        Args:
            name: The file.
            parse: Parser of its bytes; may raise :class:`Damaged`.
            digest: Its content hash, where known; bytes with this hash may come from a cache.

        Raises:
            InputError: The file cannot be read or parsed.
        """
        ...

    def size(self, name: str) -> int | None:
        """Return a file's bytes, None if the storage does not tell; raises :class:`InputError`."""
        ...

    def chunk(self, name: str, digest: str, chunks: Sequence[ChunkAt], number: int) -> bytes:
        """Read a game's chunk in the tar ``name``, whose index has the hash ``digest``.

        Raises:
            Damaged: The bytes are cut or changed.
            InputError: The bytes cannot be read.
        """
        ...


class Folder:
    """Storage of shards in a local folder."""

    readers = 1

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()

    def where(self, name: str) -> str:
        """Return a file's path, for messages."""
        return str(self.directory / name)

    def read(self, name: str, parse: Callable[[bytes], T], digest: str = "") -> T:
        """Read and parse a small file; see :meth:`Storage.read`. ``digest`` is not checked."""
        path = self.directory / name
        try:
            if self.size(name) > MAX_FILE_BYTES:
                raise InputError(f"{path} has more than {MAX_FILE_BYTES} bytes: not written here")
            return parse(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        except Damaged as error:
            raise InputError(f"{path} {error}: convert the games again") from None

    def size(self, name: str) -> int:
        """Return a file's bytes; refuse pipes and devices, which could be read without end."""
        try:
            about = (self.directory / name).stat()
        except FileNotFoundError:
            raise InputError(
                f"{self.where(name)} is missing: convert the games with agent-scaling shard"
            ) from None
        except OSError as error:
            raise InputError(f"cannot read {self.where(name)}: {error.strerror}") from None
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{self.where(name)} is not a file: convert the games again")
        return about.st_size

    def chunk(self, name: str, digest: str, chunks: Sequence[ChunkAt], number: int) -> bytes:
        """Read and check a game's chunk; see :meth:`Storage.chunk`."""
        offset, size, crc = chunks[number]
        try:
            data = os.pread(self._file(name), size, offset)
        except OSError as error:
            raise InputError(f"cannot read {self.where(name)}: {error.strerror}") from None
        check_chunk(data, size, crc)
        return data

    def _file(self, name: str) -> int:
        with self._lock:
            if name not in self._files:
                self._files[name] = os.open(self.directory / name, os.O_RDONLY)
            return self._files[name]

    def __del__(self) -> None:
        for handle in getattr(self, "_files", {}).values():
            os.close(handle)


def check_chunk(data: bytes | memoryview, size: int, crc: int) -> None:
    """Raise :class:`Damaged` unless the bytes have a chunk's size and checksum."""
    if len(data) != size:
        raise Damaged("is cut")
    if zlib.crc32(data) != crc:
        raise Damaged("is damaged")
