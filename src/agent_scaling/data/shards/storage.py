"""Where shards lie: a folder that is read in place, or any URL that fsspec knows."""

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
"""What is kept of remote shards, and where, unless the user says otherwise."""

PATIENCE_MINUTES = 25.0
"""For a store that is away: below the 30 after which ranks give each other up."""

MAX_FILE_BYTES = 1 << 28
"""Of a manifest or an index: 256 MiB, ten million lines of skipped files."""


class Damaged(ValueError):  # noqa: N818  # callers turn it into an InputError with the file
    """Bytes that are not what was written; the message is a verb phrase: "is cut"."""


class Storage(Protocol):
    """Files of one set of shards by name. Safe to share between threads."""

    readers: int
    """Threads that should read indexes at the same time."""

    def where(self, name: str) -> str:
        """A file's path or URL, for messages."""
        ...

    def read(self, name: str, parse: Callable[[bytes], T], digest: str = "") -> T:
        """What ``parse`` makes of a small file.

        Args:
            name: The file.
            parse: May raise :class:`Damaged`.
            digest: Its content hash, where it is known: what has it may come from a cache.

        Raises:
            InputError: It cannot be read, or not be parsed.
        """
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where the storage does not say; raises :class:`InputError`."""
        ...

    def chunk(self, name: str, digest: str, chunks: Sequence[ChunkAt], number: int) -> bytes:
        """The bytes of a game's chunk in the tar ``name``, whose index has the hash ``digest``.

        Raises:
            Damaged: They are cut or changed.
            InputError: They cannot be read.
        """
        ...


class Folder:
    """Shards on a disk."""

    readers = 1

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()

    def where(self, name: str) -> str:
        """See :class:`Storage`."""
        return str(self.directory / name)

    def read(self, name: str, parse: Callable[[bytes], T], digest: str = "") -> T:
        """See :class:`Storage`."""
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
        """See :class:`Storage`; a pipe or a device has none, and would be read without end."""
        try:
            about = (self.directory / name).stat()
        except FileNotFoundError:
            raise InputError(
                f"{self.where(name)} is missing: convert the games with agent-scaling shard"
            ) from None
        except OSError as error:
            raise InputError(f"cannot read {self.where(name)}: {error.strerror}") from None
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{self.where(name)} is no file: convert the games again")
        return about.st_size

    def chunk(self, name: str, digest: str, chunks: Sequence[ChunkAt], number: int) -> bytes:
        """See :class:`Storage`."""
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
    """Raise :class:`Damaged` unless the bytes are a chunk's."""
    if len(data) != size:
        raise Damaged("is cut")
    if zlib.crc32(data) != crc:
        raise Damaged("is damaged")
