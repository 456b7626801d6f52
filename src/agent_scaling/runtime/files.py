"""Writes files whole or not at all, and explains the disk's errors."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import masked

PARTIAL = ".partial"
SETTLED = 60
"""Seconds after which a part that no process of this machine writes is one that a kill has left."""
FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}
FULL[errno.EFBIG] = "the file would exceed the size limit"


class FullDiskError(InputError):
    """A file that finds no room; ``again`` says how to go on once there is some."""

    def __init__(self, path: Path, why: str, again: str = "run the same command again") -> None:
        super().__init__(f"{path}: {why}; finished files are kept: make room and {again}")
        self.path, self.why, self.again = path, why, again

    def __reduce__(self) -> tuple[type[FullDiskError], tuple[Path, str, str]]:
        """Let a worker process send it: an exception is made again from its message alone."""
        return FullDiskError, (self.path, self.why, self.again)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write as :func:`replacing`; a full disk or no permission raises :class:`InputError`."""
    with disk_errors(path), replacing(path) as file:
        yield file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside ``path``, sync, then rename: a reader never sees half a file.

    Errors pass through, and the part is removed. The part's name belongs to this process: two
    processes that write the same file do not write into the same part. Parts that killed processes
    have left are removed.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left(path)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def part_of(path: Path) -> Path:
    """Return a hidden path beside ``path``, under a name of this process's own."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}{PARTIAL}")


def remove_left(path: Path) -> None:
    """Remove the parts of a file or a folder whose processes, of this machine, have ended."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.{platform.node()}-*{PARTIAL}"):
        number = part.name.removesuffix(PARTIAL).rpartition("-")[2]
        with contextlib.suppress(OSError, ValueError):
            old = time.time() - part.stat().st_mtime > SETTLED  # else of a container of our name
            if old and not Path("/proc", str(int(number))).exists() and Path("/proc/self").exists():
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8; raises :class:`InputError` where it cannot be written."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the disk's errors while ``path`` is written into an :class:`InputError`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise FullDiskError(path, FULL[error.errno]) from None
        raise InputError(f"{path}: cannot be written ({error.strerror}); change output=") from None


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def content_hash(data: bytes) -> str:
    """Return blake2b with 16 bytes, as hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()


def write_json(path: Path, content: object) -> None:
    """Write JSON with credentials masked, whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    write_file(path, json.dumps(masked(content), indent=2) + "\n")


def digest(ckpt: str) -> str | None:
    """Return the SHA-256 of a checkpoint's file; ``last.ckpt`` changes as training goes on."""
    if ckpt == "random":
        return None
    with Path(ckpt).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_url(location: str | Path) -> bool:
    """True where fsspec reads the location, which is a URL."""
    return "://" in str(location) and not str(location).startswith("file://")


def local_path(location: str | Path) -> Path:
    """Return the folder that a path or a ``file://`` URL names."""
    return Path(str(location).removeprefix("file://"))


def absolute(location: str | Path) -> str:
    """Return the location in a form that does not depend on the current folder."""
    return str(location) if is_url(location) else str(local_path(location).resolve())
