"""A fuzz target: bytes in, and out comes content, a refusal of one line, or a finding."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from random import Random

SECONDS = 3.0
"""CPU time that no input may take."""
MEGABYTES = 200
"""Memory that no input may add to the process's peak."""
LONGEST_LINE = 1500


class Finding(AssertionError):  # noqa: N818  # what fuzzers call it
    """An input did something else than be read or be refused in one line."""


@dataclass(frozen=True)
class Target:
    """One kind of file, its reader, and its generator of inputs."""

    seeds: list[bytes]
    """Real files from which inputs are made; each can be read."""
    read: Callable[[bytes], object]
    """The reader that is tried."""
    refusals: tuple[type[Exception], ...]
    """Exceptions by which the reader refuses a file; their text is one line."""
    mutate: Callable[[bytes, Random], bytes]
    """A generator that knows the format: a changed input."""
    megabytes: int = MEGABYTES
    longest: int = 4096
    """Bytes of the longest input that is made."""

    def accepts(self, data: bytes) -> bool:
        """Return True for an input that is read, False for one that is refused.

        Raises:
            Finding: It raises anything else, or takes too much time or memory.
        """
        forget_peak()
        memory, began = peak_megabytes(), time.process_time()
        try:
            self.read(data)
            accepted = True
        except self.refusals as error:
            accepted, said = False, str(error)
            if "\n" in said or len(said) > LONGEST_LINE:
                raise Finding(f"its refusal is not one line: {said[:200]!r}") from error
        except Exception as error:
            raise Finding(f"{type(error).__name__}: {error}") from error
        if (took := time.process_time() - began) > SECONDS:
            raise Finding(f"it takes {took:.1f} s")
        if (grown := peak_megabytes() - memory) > self.megabytes:
            raise Finding(f"it takes {grown} MB")
        return accepted


def forget_peak() -> None:
    """Let the peak be what the process has now: an earlier one would hide an input's memory."""
    with suppress(OSError):
        os.pwrite(_own("clear_refs", os.O_WRONLY, os.getpid()), b"5", 0)


def peak_megabytes() -> int:
    """Return the most memory that this process has had since `forget_peak`.

    Not `getrusage`: its peak also counts the process from which this one was forked.
    """
    status = os.pread(_own("status", os.O_RDONLY, os.getpid()), 4096, 0)
    return int(status.split(b"VmHWM:")[1].split(None, 1)[0]) // 1024


@cache  # opened once: each input asks three times
def _own(name: str, flags: int, pid: int) -> int:
    return os.open(f"/proc/{pid}/{name}", flags)
