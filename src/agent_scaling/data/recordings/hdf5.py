"""Members of an HDF5 file that lie in the file itself and are of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from agent_scaling.data.recordings.base import BadGame

MOST_STEPS = 10_000_000
"""Most frames of one episode; ALE ends a game after 108,000 frames."""
MOST_ITEM_BYTES = 1 << 22
"""Most bytes of one step; an RGB screen has 100,800 bytes."""
MOST_CHUNK_BYTES = 1 << 28
"""Most bytes of a chunk, which HDF5 unpacks as a whole."""
MOST_UNPACKED, SPARE_BYTES = 10_000, 1 << 20
"""Most bytes that are declared for each stored byte, and beside those: HDF5 makes up what is not
stored, and deflate packs at most 1032 bytes into one."""
PIECE_BYTES, LISTS = 1 << 26, 16
"""Bytes that are read at once, and lists of different lengths."""
UNPACKING, ARRANGING = {1, 4, 32000}, {2, 3}
"""Numbers of HDF5's filters: deflate, szip and lzf; shuffle and fletcher32. Each of the first kind
unpacks what the one before has unpacked."""


def group_in(file: Any, name: str) -> Any:
    """Return a group of a file; raises KeyError where it is not there, else :class:`BadGame`."""
    _check_link(file, name)
    found = file[name]
    if not hasattr(found, "keys"):
        raise BadGame(f"its {name} is no group")
    return found


def array_in(group: Any, name: str) -> Any:
    """Return a data set of a group before anything of it is read.

    Raises:
        KeyError: It is not there.
        BadGame: Its data lie in other files, or it declares more than an episode can have.
    """
    import h5py

    _check_link(group, name)
    found = group[name]
    if not isinstance(found, h5py.Dataset) or not found.shape:
        raise BadGame(f"its {name} are no list")
    if found.is_virtual or found.external:
        raise BadGame(f"its {name} lie in other files, which are not read")
    base = h5py.check_vlen_dtype(found.dtype) or found.dtype
    if np.dtype(base).kind not in "biuf":
        raise BadGame(f"its {name} are {base}, no numbers")
    item = found.dtype.itemsize * prod(found.shape[1:])
    chunk = found.dtype.itemsize * prod(found.chunks or ())
    if len(found) > MOST_STEPS or item > MOST_ITEM_BYTES or chunk > MOST_CHUNK_BYTES:
        raise BadGame(f"its {name} declare the shape {found.shape}, more than an episode has")
    _check_packing(found, name)
    return found


def pieces(found: Any, begin: int, end: int) -> Iterator[Any]:
    """Yield the steps [begin, end) of a data set as arrays of a bounded size."""
    item = found.dtype.itemsize * prod(found.shape[1:])
    step = LISTS if found.dtype.kind == "O" else max(1, PIECE_BYTES // max(1, item))
    for at in range(begin, end, step):
        yield found[at : min(at + step, end)]


def _check_packing(found: Any, name: str) -> None:
    """Raise :class:`BadGame` for a data set that would unpack to far more than it stores."""
    stored = found.id.get_storage_size()
    if found.nbytes > MOST_UNPACKED * stored + SPARE_BYTES:
        raise BadGame(f"its {name} declare {found.nbytes} bytes and store {stored}")
    used = found.id.get_create_plist()
    codes = [used.get_filter(number)[0] for number in range(used.get_nfilters())]
    if sum(code in UNPACKING for code in codes) > 1 or {*codes} - UNPACKING - ARRANGING:
        raise BadGame(f"its {name} are packed twice, or in a way that is not read")


def list_in(group: Any, name: str) -> Any:
    """Return a data set of a group that holds one number for each step; raises as `array_in`."""
    found = array_in(group, name)
    if len(found.shape) != 1 or found.dtype.kind == "O":
        raise BadGame(f"its {name} have the shape {found.shape}, not one number for each step")
    return found


def _check_link(group: Any, name: str) -> None:
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise KeyError(name)
    if not isinstance(link, h5py.HardLink):
        raise BadGame(f"its {name} lead elsewhere, which is not followed")
