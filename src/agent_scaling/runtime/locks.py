"""Locks on files and folders; the kernel releases them when their process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from agent_scaling.runtime.errors import InputError

LOCK_FILE = ".lock"
"""In a run's output folder: locked while a process trains there."""


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[int]:
    """Hold the lock of a folder or file and yield its descriptor; a missing file is created.

    Args:
        path: An existing folder, or a file in one.
        shared: Take a shared lock: several processes may hold one, none an exclusive one meanwhile.
        wait: Wait for the lock; otherwise fail at once if another process holds it.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: ``path`` cannot be opened, or its file system has no locks.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags, 0o666)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def output_locked(
    output: Path, who: str, *, file: str = "", shared: bool = False
) -> Iterator[None]:
    """Create an output folder and lock it; a second writer is refused.

    Args:
        output: The folder.
        who: The kind of writer, for the message: ``"run"``.
        file: Name of the file in it to lock; empty locks the folder itself.
        shared: As for :func:`locked`.

    Raises:
        InputError: The folder cannot be created or locked, or another ``who`` holds it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"output={output}: cannot be written ({error.strerror}); give another output="
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(output / file if file else output, shared=shared))
        except BlockingIOError:
            raise InputError(
                f"output={output}: another {who} is writing there; give another output="
            ) from None
        except OSError as error:
            raise InputError(
                f"output={output}: cannot be locked ({error.strerror}); give another output="
            ) from None
        yield


def is_held(output: Path) -> bool:
    """True where a process trains in a folder and so holds its lock file."""
    path = output / LOCK_FILE
    try:
        with locked(path, shared=True) if path.exists() else contextlib.nullcontext():
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
