"""Lets games share NetHack's machine code, and replaces the wall clock in their libraries.

NLE loads a private copy of its library per game, because NetHack keeps its state in global
variables. Only the state needs to be private; private copies of the code evict each other from a
core's caches.
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
    """Share the pages of a game's code and fix its birthday; call it after the game's reset.

    Args:
        path: The game's copy of the library (NLE's ``dlpath``).
        birthday: Unix time in place of the clock's, see :class:`~agent_scaling.envs.seeds.Seeds`.
    """
    # NLE reloads the copy at each reset, and refuses to while a handle to it is open, so the handle
    # is closed again here.
    library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    try:
        ctypes.c_long.in_dll(library, "ubirthday").value = birthday
        _shared_code().share(library)
    finally:
        _ctypes.dlclose(library._handle)


class SharedCode:
    """The read-only segments of a library's file.

    Args:
        path: The library's file, of which :meth:`share` gets loaded copies.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)  # open until the process ends, for mmap
        self._segments = read_only_segments(path.read_bytes())

    def share(self, library: ctypes.CDLL) -> None:
        """Map the file's own pages over the same bytes of a loaded copy.

        The kernel keeps one copy of a file's pages for all processes that map them. A repeated call
        is harmless. Unloading the copy unmaps the pages.

        Raises:
            OSError: The kernel refuses the mapping.
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
    """Return (offset, bytes, mmap's protection) of an ELF64 file's read-only segments.

    Only segments whose file offset equals their address are included.
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
    """Return the segments that all games of this process share."""
    return SharedCode(Path(DLPATH))
