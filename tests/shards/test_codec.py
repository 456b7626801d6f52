"""A chunk comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.shards import codec


def random_frames(n: int, seed: int) -> codec.Frames:
    rng = np.random.default_rng(seed)
    return codec.Frames(
        chars=rng.integers(0, 256, (n, 24, 80), np.uint8),
        colors=rng.integers(-128, 128, (n, 24, 80), np.int8),
        cursor=rng.integers(0, 81, (n, 2), np.uint8),
        key=rng.integers(0, 256, n, np.uint8),
        decision=rng.integers(0, 2, n, np.uint8),
        score=rng.integers(-(2**31), 2**31, n, np.int32),
        previous_key=int(rng.integers(256)),
    )


@given(n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_round_trip(n: int, seed: int) -> None:
    frames = random_frames(n, seed)
    back = codec.decode(codec.encode(frames, codec.compressor(3)), n)
    for name, value in vars(frames).items():
        assert np.array_equal(getattr(back, name), value), name
        assert np.asarray(getattr(back, name)).dtype == np.asarray(value).dtype


def test_another_number_of_frames_is_refused() -> None:
    data = codec.encode(random_frames(5, 0), codec.compressor(3))
    for frames in (4, 6, 0, -1):
        with pytest.raises(codec.CorruptChunk):
            codec.decode(data, frames)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    huge = (1 << 28) // codec.BYTES_PER_FRAME
    for data in (bomb, unsized, b"", b"no zstd frame"):
        with pytest.raises(codec.CorruptChunk):
            codec.decode(data, 10)
        with pytest.raises(codec.CorruptChunk):
            codec.decode(data, huge)


def test_cut_data_are_refused() -> None:
    data = codec.encode(random_frames(20, 1), codec.compressor(3))
    for cut in (len(data) // 2, len(data) - 1):
        with pytest.raises(codec.CorruptChunk):
            codec.decode(data[:cut], 20)
