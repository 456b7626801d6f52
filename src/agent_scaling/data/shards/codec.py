"""Codec of chunks: one zstd frame of the raw planes that the game's :class:`Layout` lists.

Frames are not delta-coded, because zstd's window already finds the previous frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from agent_scaling.data.shards.layout import NETHACK, Layout, plane_bytes

MAX_CHUNK_FRAMES = 1 << 16
"""Most frames of a chunk; a larger declared size is refused before memory is allocated."""


class CorruptChunk(ValueError):  # noqa: N818  # callers turn it into an InputError with the file
    """The bytes differ from the chunk that the index declares."""


@dataclass
class Frames:
    """n frames of one game in shard form; ``decision[t]`` is 1 where a player answered frame t."""

    shown: dict[str, npt.NDArray[Any]]
    """Observation → [n, …]."""
    key: npt.NDArray[np.uint8]
    """[n]: key pressed after frame t was seen, 0 where there is none."""
    decision: npt.NDArray[np.uint8]
    """[n]: 1 where a player answered the frame, else 0."""
    score: npt.NDArray[np.int32]
    """[n]: the in-game score."""
    previous_key: int
    """Key pressed before frame 0; 0 at a game's start."""
    probability: npt.NDArray[np.uint8] | None = None
    """[n], in labelled shards only: the model's probability of ``key``, in 255ths."""

    def __len__(self) -> int:
        return len(self.key)


def compressor(level: int) -> zstandard.ZstdCompressor:
    """Make a compressor whose output depends on the input and the level alone."""
    # Without matches under 6 bytes, screens take 3 % fewer bytes and code faster both ways.
    params = zstandard.ZstdCompressionParameters.from_level(level, min_match=6, threads=0)
    return zstandard.ZstdCompressor(compression_params=params)


def encode(frames: Frames, zstd: zstandard.ZstdCompressor, layout: Layout = NETHACK) -> bytes:
    """Encode a chunk and return its compressed bytes."""
    raw = np.empty(len(frames) * layout.bytes_per_frame + 1, np.uint8)
    planes = view(raw, len(frames), layout)
    for name, array in planes.shown.items():
        array[:] = frames.shown[name]
    for name in ("key", "decision", "score", *(["probability"] if layout.labelled else [])):
        getattr(planes, name)[:] = getattr(frames, name)
    raw[-1] = frames.previous_key
    return zstd.compress(raw.data)


def decompress(
    data: bytes,
    frames: int,
    zstd: zstandard.ZstdDecompressor,
    into: npt.NDArray[np.uint8] | None = None,
    layout: Layout = NETHACK,
) -> npt.NDArray[np.uint8]:
    """Decompress a chunk to its raw planes [frames * bytes_per_frame + 1].

    The planes lie in the first bytes of ``into``, or in new memory. The declared size is checked
    before memory is allocated or written. Raises :class:`CorruptChunk`.
    """
    expected = frames * layout.bytes_per_frame + 1
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


def decode(data: bytes, frames: int, layout: Layout = NETHACK) -> Frames:
    """Decode a chunk to its planes; raises :class:`CorruptChunk`."""
    raw = decompress(data, frames, zstandard.ZstdDecompressor(), layout=layout)
    return view(raw, frames, layout)


def view(raw: npt.NDArray[np.uint8], frames: int, layout: Layout = NETHACK) -> Frames:
    """View the raw planes of ``frames`` frames as arrays, without a copy."""
    shown: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for plane in layout.planes:
        width = plane_bytes(plane)
        rows, at = raw[offset : offset + frames * width].reshape(frames, width), 0
        for name, dtype, shape in plane:
            size = plane_bytes(((name, dtype, shape),))
            shown[name] = rows[:, at : at + size].view(dtype).reshape(frames, *shape)
            at += size
        offset += frames * width
    key, decision = (raw[offset + i * frames : offset + (i + 1) * frames] for i in range(2))
    end = offset + 6 * frames
    score = raw[offset + 2 * frames : end].view("<i4")
    probability = raw[end : end + frames] if layout.labelled else None
    previous_key = int(raw[frames * layout.bytes_per_frame])
    return Frames(shown, key, decision, score, previous_key, probability)
