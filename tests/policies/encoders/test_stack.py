"""Stacked frames: by the double loop that they stand for, and whatever the cut into windows."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agent_scaling.data.batch import Batch
from agent_scaling.policies.encoders.stack import FrameStack
from tests.helpers.policies import cut, random_batch, small_policy

STEPS, LANES, BLANK = 8, 3, 7
POLICIES = {frames: small_policy(frames=frames).eval() for frames in (2, 3, 12)}

frames_seen, seeds, chances = (
    st.sampled_from([*POLICIES]),
    st.integers(0, 10_000),
    st.floats(0, 0.7),
)


def make(frames: int) -> FrameStack:
    return FrameStack(frames, (2,), torch.int16, BLANK)


def window(seed: int, openings: float) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    plane_TBX = torch.randint(100, 999, (STEPS, LANES, 2), generator=g).to(torch.int16)
    return plane_TBX, torch.rand(STEPS, LANES, generator=g) < openings


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(2, 12), seed=seeds, openings=chances, split=st.integers(0, STEPS))
def test_a_frame_sees_those_before_it_in_its_game(
    frames: int, seed: int, openings: float, split: int
) -> None:
    plane, first = window(seed, openings)
    stack, found = make(frames), []
    state = stack.initial_state(LANES, torch.device("cpu"))
    for part in (slice(0, split), slice(split, STEPS)):
        if len(plane[part]):
            stacked, state = stack(plane[part], first[part], state)
            found.append(stacked)
    stacked = torch.cat(found)
    for lane in range(LANES):
        seen = [torch.full((2,), BLANK)] * frames
        for t in range(STEPS):
            if first[t, lane]:
                seen = [torch.full((2,), BLANK)] * frames
            seen = [*seen[1:], plane[t, lane]]
            for k in range(frames):
                assert stacked[t, lane, :, k].tolist() == seen[k].tolist()
        assert state[:, lane].tolist() == [frame.tolist() for frame in seen[1:]]


def answer(frames: int, batch: Batch, state: Any = None) -> tuple[torch.Tensor, Any]:
    policy = POLICIES[frames]
    with torch.no_grad():
        logits, _, state = policy(batch, state or policy.initial_state(batch.lanes))
    return logits, state


@settings(max_examples=15, deadline=None)
@given(frames=frames_seen, seed=seeds, openings=chances, split=st.integers(1, STEPS - 1))
def test_policy_two_windows_equal_one(frames: int, seed: int, openings: float, split: int) -> None:
    batch = random_batch(STEPS, LANES, seed, openings)
    whole, end = answer(frames, batch)
    head, state = answer(frames, cut(batch, slice(0, split)))
    tail, state = answer(frames, cut(batch, slice(split, None)), state)
    assert_close(torch.cat([head, tail]), whole)
    assert_close(state, end)


@settings(max_examples=10, deadline=None)
@given(frames=frames_seen, seed=seeds, openings=chances)
def test_policy_lanes_alone_equal_lanes_together(frames: int, seed: int, openings: float) -> None:
    batch = random_batch(STEPS, LANES, seed, openings)
    together, _ = answer(frames, batch)
    alone = [answer(frames, cut(batch, slice(None), slice(b, b + 1)))[0] for b in range(LANES)]
    assert_close(torch.cat(alone, dim=1), together, atol=1e-5, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(frames=frames_seen, seed=seeds, opening=st.integers(0, STEPS - 1))
def test_policy_forgets_the_game_before(frames: int, seed: int, opening: int) -> None:
    batch = random_batch(STEPS, LANES, seed)
    _, old = answer(frames, random_batch(STEPS, LANES, seed + 1))
    batch.first_TB[opening] = True
    out, _ = answer(frames, batch, old)
    fresh, _ = answer(frames, cut(batch, slice(opening, None)))
    assert_close(out[opening:], fresh)


def test_policy_sees_its_frames_and_no_more() -> None:
    """With a core that remembers, so: the encoder's features, not the logits."""
    encoder = POLICIES[3].encoder
    batch = random_batch(STEPS, 1, seed=4)
    with torch.no_grad():
        expected, _ = encoder(batch, encoder.initial_state(1))
        batch.chars_TBHW[2, 0, 5, 5] = 200
        batch.colors_TBHW[2, 0, 5, 7] = 20
        changed, _ = encoder(batch, encoder.initial_state(1))
    differs = (expected - changed).abs().sum(-1)[:, 0] > 0
    assert differs.nonzero().flatten().tolist() == [2, 3, 4]


def test_state_is_what_travels_and_no_more() -> None:
    policy = POLICIES[3]
    state = policy.initial_state(5)
    shapes = [(tuple(part.shape), part.dtype) for part in state[policy.core_parts :]]
    assert shapes == [((2, 5, 21, 80), torch.uint8), ((2, 5, 21, 80), torch.int8)]
    assert len(small_policy(frames=3, colors=False).initial_state(1)) == policy.core_parts + 1
    assert len(small_policy().initial_state(1)) == policy.core_parts
