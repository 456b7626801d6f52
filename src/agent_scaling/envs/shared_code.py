"""What is done to a game's private copy of NetHack's library: one machine code, no wall clock.

NLE loads a private copy of its library per game, because NetHack keeps its state in global
variables. Only the state needs to be private: copies of the code push each other out of a core's
caches.
"""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import os
import struct
from functools import cache
from pathlib import Path

from nle.nethack.nethack import DLPATH

LOAD, WRITABLE = 1, 2  # PT_LOAD, PF_W
MAP_FIXED = 0x10  # missing in Python's mmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip


def prepare_library(path: str, birthday: int) -> None:
    """After a game's reset: share its code's pages, and fix what it would take from the clock.

    Args:
        path: The game's copy of the library (NLE's ``dlpath``).
        birthday: See :class:`~agent_scaling.envs.seeds.Seeds`.
    """
    # NLE loads the copy anew at each reset, and refuses to while a handle to it is held: it is
    # taken and given back here.
    library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    try:
        ctypes.c_long.in_dll(library, "ubirthday").value = birthday
        _shared_code().share(library)
    finally:
        _ctypes.dlclose(library._handle)


class SharedCode:
    """The parts of a library's file that no process writes to.

    Args:
        path: The library; the copies that :meth:`share` is given must be copies of it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)  # until the process ends: it maps its pages
        self._segments = read_only_segments(path.read_bytes())

    def share(self, library: ctypes.CDLL) -> None:
        """Lay the file's own pages over the same bytes of a loaded copy.

        The kernel keeps the pages of a file once, whoever maps them. Again is harmless; unloading
        the copy unmaps them.

        Raises:
            OSError: The kernel refuses.
        """
        # A handle points to the loader's link_map, which begins with the address of the copy.
        base = ctypes.c_size_t.from_address(library._handle).value
        for offset, size, protection in self._segments:
            where = base + offset
            flags = mmap.MAP_PRIVATE | MAP_FIXED
            found = _libc.mmap(where, size, protection, flags, self._file, offset)
            if found != where:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read_only_segments(elf: bytes) -> list[tuple[int, int, int]]:
    """(offset, bytes, mmap's protection) of the segments of an ELF64 file that are never written.

    Only those that lie in memory as in the file, so that an offset is also an address.
    """
    (table,) = struct.unpack_from("<Q", elf, 32)
    entry, count = struct.unpack_from("<HH", elf, 54)
    found = []
    for at in range(table, table + entry * count, entry):
        kind, flags, offset, address, _, size = struct.unpack_from("<IIQQQQ", elf, at)
        if kind == LOAD and not flags & WRITABLE and offset == address:
            # PF_X, PF_R are 1, 4; PROT_EXEC, PROT_READ are 4, 1.
            found.append((offset, size, (flags & 1) << 2 | flags >> 2 & 1))
    return found


@cache
def _shared_code() -> SharedCode:
    """One for all games of this process."""
    return SharedCode(Path(DLPATH))
