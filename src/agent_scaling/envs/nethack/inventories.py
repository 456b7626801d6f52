"""The inventory of each frame of a recorded game, in a file beside its recording.

A recording holds what the terminal showed, and the inventory is not on it. The file is bz2 of a
first line, :data:`MAGIC`, and of rows, :data:`ROW`: one for each frame at which the inventory
changed, and a last one whose frame is the number of the game's frames.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent_scaling.envs.screens import INVENTORY_SLOTS, are_glyphs
from agent_scaling.runtime.files import write_file

SUFFIX = ".inventory.bz2"
MAGIC = b"inventory of NLE, 1\n"
ROW = np.dtype(
    [
        ("frame", "<u4"),
        ("glyphs", "<i2", INVENTORY_SLOTS),
        ("letters", "u1", INVENTORY_SLOTS),
        ("classes", "u1", INVENTORY_SLOTS),
    ]
)
"""Frame, and of each slot: its glyph (``NO_GLYPH``: empty), letter and object class."""

MOST_BYTES = 1 << 28
"""Most bytes of a file, packed or not: a million changes."""
VIEWS = {"inv_glyphs": "int16", "inv_letters": "uint8", "inv_oclasses": "uint8"}
"""NLE's observations that a row holds, in its order, and their dtypes."""


class InventoryLog:
    """Log of one game's inventories.

    Args:
        buffers: The arrays that NLE writes to already, by its names.
    """

    def __init__(self, buffers: Mapping[str, npt.NDArray[Any]]) -> None:
        self.views: dict[str, npt.NDArray[Any]] = {
            name: buffers[name] if name in buffers else np.zeros(INVENTORY_SLOTS, dtype)
            for name, dtype in VIEWS.items()
        }
        """The arrays that NLE must write to."""
        self._rows: list[bytes] = []
        self._last = b""
        self._frames = 0

    def see(self) -> None:
        """Note the inventory of the next frame; call it before each key."""
        seen = b"".join(view.tobytes() for view in self.views.values())
        if seen != self._last:
            self._rows.append(self._frames.to_bytes(4, "little") + seen)
            self._last = seen
        self._frames += 1

    def write(self, recording: Path) -> None:
        """Write the file that belongs to ``recording``; raises :class:`InputError`."""
        end = self._frames.to_bytes(4, "little") + self._last
        rows = b"".join([MAGIC, *self._rows, end])
        write_file(inventory_file(recording), bz2.compress(rows))


def inventory_file(recording: Path) -> Path:
    """Return where a recording's inventory lies: ``nle.7.0.inventory.bz2`` beside its ttyrec."""
    return recording.with_name(re.sub(r"\.ttyrec.*", "", recording.name) + SUFFIX)


def read_inventory(path: Path) -> npt.NDArray[np.void]:
    """Read an inventory's rows [changes + 1], the last of which says how many frames there are.

    Raises:
        ValueError: The file is damaged, or another program's.
    """
    unpacking = bz2.BZ2Decompressor()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.name} is larger than any game's inventory")
        data = unpacking.decompress(path.read_bytes(), MOST_BYTES)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    whole = unpacking.eof and data.startswith(MAGIC)
    if not whole or (len(data) - len(MAGIC)) % ROW.itemsize:
        raise ValueError(f"{path.name} is cut, or no inventory of a game")
    rows = np.frombuffer(data, ROW, offset=len(MAGIC))
    frames = rows["frame"].astype(np.int64)
    in_order = len(rows) > 1 and frames[0] == 0 and bool((np.diff(frames) > 0).all())
    if not in_order or not are_glyphs(rows["glyphs"]):
        raise ValueError(f"{path.name} is damaged: its rows are out of order or hold no glyphs")
    return rows


def glyphs_of(rows: npt.NDArray[np.void], begin: int, end: int) -> npt.NDArray[np.int16]:
    """Return the glyphs of frames ``begin`` to ``end`` - 1 from an inventory's rows, [n, 55]."""
    index = np.searchsorted(rows["frame"], np.arange(begin, end), side="right") - 1
    found: npt.NDArray[np.int16] = rows["glyphs"][index]
    return found
