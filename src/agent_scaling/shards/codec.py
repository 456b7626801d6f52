"""One chunk of a game ⇄ one zstd frame of raw planes.

The planes stand one after another, each over all n frames (see :data:`PLANES`), then one byte: the
key before the chunk's first frame (0 at a game's start). A frame's characters and colours stand
side by side: 8 % fewer bytes than two planes, decoded as fast. No delta coding: zstd's window
already finds the previous frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from agent_scaling.batch import COLUMNS, ROWS

PLANES: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("screen", "|u1", (2, ROWS, COLUMNS)),  # characters, colours
    ("cursor", "|u1", (2,)),
    ("key", "|u1", ()),
    ("decision", "|u1", ()),
    ("score", "<i4", ()),
)
"""Name, dtype and shape per frame of each plane, in order."""

BYTES_PER_FRAME = sum(
    np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)) for _, dtype, shape in PLANES
)
LAYOUT = ",".join(f"{name}:{dtype}" for name, dtype, _ in PLANES) + ",previous_key:|u1"
MAX_CHUNK_FRAMES = 1 << 16
"""A larger declared size is refused before anything is allocated for it (256 MB)."""


class CorruptChunk(ValueError):  # noqa: N818  # callers turn it into an InputError with the file
    """The bytes are not the chunk that the index declares."""


@dataclass
class Frames:
    """n frames of one game in shard form; ``decision[t]`` is 1 where a player answered frame t."""

    chars: npt.NDArray[np.uint8]
    """[n, 24, 80]"""
    colors: npt.NDArray[np.int8]
    """[n, 24, 80]"""
    cursor: npt.NDArray[np.uint8]
    """[n, 2]: row, column."""
    key: npt.NDArray[np.uint8]
    """[n]: key pressed after frame t was seen, 0 where there is none."""
    decision: npt.NDArray[np.uint8]
    """[n]"""
    score: npt.NDArray[np.int32]
    """[n]: the in-game score."""
    previous_key: int
    """Key pressed before frame 0; 0 at a game's start."""

    def __len__(self) -> int:
        return len(self.key)


def compressor(level: int) -> zstandard.ZstdCompressor:
    """A compressor whose output depends on the input and the level alone."""
    # Matches shorter than 6 bytes do not pay on screens: 3 % fewer bytes, and faster both ways.
    params = zstandard.ZstdCompressionParameters.from_level(level, min_match=6, threads=0)
    return zstandard.ZstdCompressor(compression_params=params)


def encode(frames: Frames, zstd: zstandard.ZstdCompressor) -> bytes:
    """A chunk's compressed bytes."""
    raw = np.empty(len(frames) * BYTES_PER_FRAME + 1, np.uint8)
    planes = view(raw, len(frames))
    for name in ("chars", "colors", "cursor", "key", "decision", "score"):
        getattr(planes, name)[:] = getattr(frames, name)
    raw[-1] = frames.previous_key
    return zstd.compress(raw.data)


def decompress(
    data: bytes,
    frames: int,
    zstd: zstandard.ZstdDecompressor,
    into: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """The raw planes [frames * BYTES_PER_FRAME + 1] of a chunk, in the first bytes of ``into``.

    The declared size is checked before anything is allocated or written. Raises
    :class:`CorruptChunk`.
    """
    expected = frames * BYTES_PER_FRAME + 1
    try:
        if not 0 < frames <= MAX_CHUNK_FRAMES or zstandard.frame_content_size(data) != expected:
            raise CorruptChunk(f"does not hold {frames} frames")
        raw = np.empty(expected, np.uint8) if into is None else into[:expected]
        done = 0
        with zstd.stream_reader(data) as stream:
            while done < expected:
                count = stream.readinto(raw[done:])
                if not count:
                    raise CorruptChunk(f"ends after {done} of {expected} bytes")
                done += count
    except zstandard.ZstdError as error:
        raise CorruptChunk(str(error)) from None
    return raw


def decode(data: bytes, frames: int) -> Frames:
    """A chunk's planes; raises :class:`CorruptChunk`."""
    return view(decompress(data, frames, zstandard.ZstdDecompressor()), frames)


def view(raw: npt.NDArray[np.uint8], frames: int) -> Frames:
    """Arrays over the raw planes of ``frames`` frames."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for name, dtype, shape in PLANES:
        size = frames * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        arrays[name] = raw[offset : offset + size].view(dtype).reshape(frames, *shape)
        offset += size
    screen = arrays.pop("screen")
    chars, colors = screen[:, 0], screen[:, 1].view(np.int8)
    return Frames(chars=chars, colors=colors, **arrays, previous_key=int(raw[offset]))
