"""A chunk comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agent_scaling.data.shards import codec
from agent_scaling.data.shards.layout import (
    ABSENT,
    NETHACK,
    NETHACK_INVENTORY,
    Layout,
    atari_layout,
)
from agent_scaling.envs.actions import NO_ACTION, key_to_action

ATARI = atari_layout((0, 1, 3, 4), {"env": "Breakout"})


def random_frames(n: int, seed: int, layout: Layout = NETHACK) -> codec.Frames:
    rng = np.random.default_rng(seed)
    return codec.Frames(
        shown={
            name: rng.integers(0, 256, (n, *shape, np.dtype(dtype).itemsize), np.uint8)
            .view(dtype)
            .squeeze(-1)
            for name, (shape, dtype) in layout.shown.items()
        },
        key=rng.integers(0, 256, n, np.uint8),
        decision=rng.integers(0, 2, n, np.uint8),
        score=rng.integers(-(2**31), 2**31, n, np.int32),
        previous_key=int(rng.integers(256)),
    )


@pytest.mark.parametrize(
    "layout", [NETHACK, NETHACK_INVENTORY, ATARI], ids=["nethack", "inventory", "atari"]
)
@given(n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_round_trip(layout: Layout, n: int, seed: int) -> None:
    frames = random_frames(n, seed, layout)
    back = codec.decode(codec.encode(frames, codec.compressor(3), layout), n, layout)
    assert back.shown.keys() == frames.shown.keys()
    for name, value in frames.shown.items():
        assert np.array_equal(back.shown[name], value), name
        assert back.shown[name].dtype == value.dtype
    for name in ("key", "decision", "score", "previous_key"):
        value = getattr(frames, name)
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
    huge = (1 << 28) // NETHACK.bytes_per_frame
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


def test_a_layout_comes_back_from_json() -> None:
    for layout in (NETHACK, NETHACK_INVENTORY, ATARI):
        assert TypeAdapter(Layout).validate_json(json.dumps(layout.to_json())) == layout


def test_keys_that_stand_for_two_actions_mean_the_first() -> None:
    assert ATARI.action_of_key.tolist()[:6] == [0, 1, ABSENT, 2, 3, ABSENT]
    table = key_to_action()
    expected = np.where(table == NO_ACTION, ABSENT, table)
    assert np.array_equal(NETHACK.action_of_key, expected)
