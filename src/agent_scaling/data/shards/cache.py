"""A bounded cache of downloaded pieces in a folder, shared by all processes of a machine.

Every file is complete: it is written under a temporary name and renamed. Readers check its
content. Nothing needs repair after a process was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import FULL, PARTIAL
from agent_scaling.runtime.locks import locked

SLOTS = 64
"""Number of locks for downloads; two keys that share one by chance wait for each other."""

FREED = 0.1
"""Share of the bound that is freed at a time, so that the folder is rarely listed."""

logger = logging.getLogger(__name__)


class Cache:
    """Least-recently-used cache of bytes by key.

    A reader holds its file open, so it can finish after the file was removed.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        """Open the cache, with at most ``limit`` bytes of files.

        Raises:
            InputError: The folder cannot be used, or the limit is not positive.
        """
        if limit <= 0:
            raise InputError(f"data.cache_gb={limit / 1e9:g}: must be positive")
        self.directory, self.limit = directory, limit
        self._full = False
        self.files, self.locks = directory / "pieces", directory / "locks"
        with self._input_errors():
            self.files.mkdir(parents=True, exist_ok=True)
            self.locks.mkdir(exist_ok=True)

    def get(self, key: str, offset: int = 0, size: int = -1) -> bytes | None:
        """Return ``size`` bytes (-1: all) of a key's value from ``offset`` on; None if absent."""
        try:
            with (self.files / key).open("rb", buffering=0) as file:
                os.utime(file.fileno())  # the time of the last use; atime is often switched off
                length = os.fstat(file.fileno()).st_size - offset if size < 0 else size
                return os.pread(file.fileno(), length, offset)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._input_error(error) from None

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``, unless it alone exceeds the bound; make room first.

        On a full disk, one warning is logged, the data are not kept, and the run continues.
        """
        if len(data) > self.limit:
            return
        try:
            self._put(key, data)
        except OSError as error:
            if error.errno not in FULL:
                raise self._input_error(error) from None
            if not self._full:
                logger.warning("%s: continuing without caching more", self._input_error(error))
            self._full = True
        else:
            self._full = False

    def _put(self, key: str, data: bytes) -> None:
        with locked(self.directory / "lock", wait=True) as lock:
            # The file is counted before it is written. A process that is killed in between leaves
            # a count too high, which the next listing corrects.
            used = int(os.pread(lock, 20, 0) or self._make_room(0)) + len(data)
            if used > self.limit:
                used = self._make_room(len(data)) + len(data)
            os.pwrite(lock, f"{used:020d}".encode(), 0)
            part = self.files / f"{key}{PARTIAL}"
            try:
                part.write_bytes(data)
                part.replace(self.files / key)
            except OSError:
                os.pwrite(lock, f"{used - len(data):020d}".encode(), 0)
                raise
            finally:
                part.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> int:
        """Remove the oldest files until ``wanted`` more bytes fit; return the bytes that remain."""
        found = []
        for entry in os.scandir(self.files):
            if entry.name.endswith(PARTIAL):  # the lock is ours, so its writer was killed
                Path(entry.path).unlink()
            else:
                status = entry.stat()
                found.append((status.st_mtime_ns, status.st_size, entry.path))
        used = sum(size for _, size, _ in found)
        if used + wanted > self.limit:
            for _, size, path in sorted(found):
                if used + wanted <= max(wanted, self.limit * (1 - FREED)):
                    break
                Path(path).unlink()
                used -= size
        return used

    @contextlib.contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """Hold the right to download a key; others wait, then find it in the cache."""
        with self._input_errors():
            slot = self.locks / f"{int(key[:8], 16) % SLOTS:02d}"
            stack = contextlib.ExitStack()
            stack.enter_context(locked(slot, wait=True))
        with stack:
            yield

    @contextlib.contextmanager
    def _input_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._input_error(error) from None

    def _input_error(self, error: OSError) -> InputError:
        reason = FULL.get(error.errno or 0, error.strerror)
        return InputError(
            f"data.cache_dir={self.directory}: {reason}: give another folder, "
            f"or less than data.cache_gb={self.limit / 1e9:g}"
        )
