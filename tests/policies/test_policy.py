from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agent_scaling.data.batch import Batch
from tests.helpers.policies import cut, random_batch, small_policy

POLICY = small_policy().eval()


def answer(batch: Batch, state: object = None) -> tuple[torch.Tensor, object]:
    with torch.no_grad():
        logits, _, state = POLICY(batch, state or POLICY.initial_state(batch.lanes))
    return logits, state


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), split=st.integers(1, 6), openings=st.floats(0, 0.6))
def test_two_windows_equal_one(seed: int, split: int, openings: float) -> None:
    batch = random_batch(7, 3, seed, openings)
    whole, end = answer(batch)
    head, state = answer(cut(batch, slice(0, split)))
    tail, state = answer(cut(batch, slice(split, None)), state)
    assert_close(torch.cat([head, tail]), whole)
    assert_close(state, end)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), openings=st.floats(0, 0.6))
def test_lanes_together_equal_lanes_alone(seed: int, openings: float) -> None:
    batch = random_batch(5, 3, seed, openings)
    together, _ = answer(batch)
    alone = [answer(cut(batch, slice(None), slice(b, b + 1)))[0] for b in range(3)]
    assert_close(torch.cat(alone, dim=1), together, atol=1e-5, rtol=1e-4)


def test_opening_forgets_what_came_before() -> None:
    batch, other = random_batch(6, 2, seed=1), random_batch(6, 2, seed=2)
    batch.first_TB[3, 0] = True
    for name in ("chars_TBHW", "prev_action_TB"):
        getattr(other, name)[3:] = getattr(batch, name)[3:]
    other.colors_TBHW, other.cursor_TB2 = batch.colors_TBHW, batch.cursor_TB2
    other.first_TB = batch.first_TB
    here, there = answer(batch)[0], answer(other)[0]
    assert_close(here[3:, 0], there[3:, 0])
    assert not torch.allclose(here[3:, 1], there[3:, 1])


def test_host_side_openings_change_nothing() -> None:
    batch = random_batch(6, 2, seed=3, openings=0.3)
    expected, _ = answer(batch)
    batch.openings = batch.opening_steps()
    assert_close(answer(batch)[0], expected, atol=0, rtol=0)


def test_options_change_the_width_that_reaches_the_core() -> None:
    full = small_policy().encoder.fc[0].in_features
    assert small_policy(prev_action=False).encoder.fc[0].in_features == full - 121
    assert small_policy(crop=False).encoder.fc[0].in_features == full - 648
    logits, _, _ = small_policy(crop=False, prev_action=False)(
        random_batch(2, 2), small_policy().initial_state(2)
    )
    assert logits.shape == (2, 2, 121)


def test_memory_format_changes_no_output() -> None:
    batch = random_batch(3, 2, seed=5)
    answers = []
    for channels_last in (True, False):
        policy = small_policy(channels_last=channels_last).eval()
        answers.append(policy(batch, policy.initial_state(2))[0])
    assert_close(*answers, atol=1e-5, rtol=1e-5)
