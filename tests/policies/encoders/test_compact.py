"""The compact policy: its look-ups against products, and what every policy holds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from agent_scaling.data.batch import Batch, blank_batch
from agent_scaling.playing.play import play
from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.encoders.cells import (
    BLANK,
    CHARS,
    COLORS,
    CellTable,
    PatchConv,
    Window,
    pairs_of,
)
from agent_scaling.policies.encoders.recent import RecentActions
from agent_scaling.policies.encoders.text import TextBag
from agent_scaling.policies.executed_flops import without_memory
from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.policies.inference import for_inference
from agent_scaling.policies.policy import Policy
from tests.helpers.policies import cut, random_batch

seeds, chances = st.integers(0, 1000), st.floats(0, 0.6)


@cache
def policy() -> Policy:
    torch.manual_seed(0)
    return make_policy("policy=compact", "policy.params=30_000", "policy.encoder.far=true").eval()


def answer(batch: Batch, state: Any = None) -> tuple[torch.Tensor, Any]:
    with torch.no_grad():
        logits, _, state = policy()(batch, state or policy().initial_state(batch.lanes))
    return logits, state


@settings(max_examples=15, deadline=None)
@given(seed=seeds, split=st.integers(1, 6), openings=chances)
def test_two_windows_equal_one(seed: int, split: int, openings: float) -> None:
    batch = random_batch(7, 3, seed, openings)
    whole, end = answer(batch)
    head, state = answer(cut(batch, slice(0, split)))
    tail, state = answer(cut(batch, slice(split, None)), state)
    assert_close(torch.cat([head, tail]), whole, atol=1e-5, rtol=1e-4)
    assert_close(state, end, atol=1e-5, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, openings=chances)
def test_lanes_together_equal_lanes_alone(seed: int, openings: float) -> None:
    batch = random_batch(5, 3, seed, openings)
    together, _ = answer(batch)
    alone = [answer(cut(batch, slice(None), slice(b, b + 1)))[0] for b in range(3)]
    assert_close(torch.cat(alone, dim=1), together, atol=1e-5, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, opening=st.integers(0, 5))
def test_a_game_forgets_the_one_before(seed: int, opening: int) -> None:
    batch = random_batch(6, 2, seed)
    _, old = answer(random_batch(6, 2, seed + 1))
    batch.first_TB[opening] = True
    fresh, _ = answer(cut(batch, slice(opening, None)))
    assert_close(answer(batch, old)[0][opening:], fresh, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("option", ["far=true", "far=false", "inventory=true"])
@pytest.mark.parametrize("params", ["10_000", "300_000", "20_000_000"])
def test_flops_are_those_of_a_brute_force_count_and_grow_with_parameters(
    params: str, option: str
) -> None:
    made = make_policy("policy=compact", f"policy.params={params}", f"policy.encoder.{option}")
    ghost, batch = without_memory(made), blank_batch(1, 2, device="meta")
    batch.openings = (0,)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(batch, ghost.initial_state(2))
    assert flops_per_frame(made) * 2 == 3 * counter.get_total_flops()
    free = made.encoder.inventory.table.numel() if made.encoder.inventory else 0
    assert 2 * (made.num_params - free) < flops_per_frame(made) < 15 * made.num_params


def test_a_pair_s_vector_is_that_of_its_character_and_colour() -> None:
    cells = CellTable(3)
    pairs = pairs_of(torch.tensor([[[100, 32, 64]]]), torch.tensor([[[7, 3, 0]]]))
    assert pairs.flatten().tolist() == [100 * COLORS + 7, BLANK, 64 * COLORS]
    found = cells.of(pairs.flatten())
    assert_close(found[0], cells.chars[100] * (1 + cells.colors[7]))
    assert not found[1].any()


def test_a_window_is_cut_around_the_cursor() -> None:
    """Against a double loop over rows and columns; blank outside the map."""
    g = torch.manual_seed(0)
    pairs = torch.randint(0, CHARS * COLORS, (4, 21, 80), generator=g)
    cursors = torch.tensor([[1, 0], [21, 79], [11, 40], [23, 5]], dtype=torch.uint8)
    for rows, columns, down, across in ((1, 1, 5, 3), (2, 3, 3, 3)):
        found = Window(rows, columns, down, across)(pairs, cursors)
        for frame, (row, column) in enumerate(cursors.tolist()):
            top = min(row - 1, 20) - rows * down // 2
            left = column - columns * across // 2
            for y in range(rows * down):
                for x in range(columns * across):
                    inside = 0 <= top + y < 21 and 0 <= left + x < 80
                    expected = pairs[frame, top + y, left + x] if inside else BLANK
                    patch, tap = y // rows * across + x // columns, y % rows * columns + x % columns
                    assert found[frame, patch, tap] == expected


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_patches_are_a_convolution_over_embedded_cells(share: float) -> None:
    """Values, and gradients of kernel and tables, against conv2d with its stride."""
    g = torch.manual_seed(1)
    cells, (rows, columns, down, across) = CellTable(4).double(), (3, 2, 2, 3)
    patches = PatchConv(cells, rows * columns, 5).double()
    pairs = torch.randint(0, CHARS * COLORS, (3, down * rows, across * columns), generator=g)
    blank = torch.rand(pairs.shape, generator=g) < share
    pairs = pairs.masked_fill(blank | (pairs // COLORS == ord(" ")), BLANK)
    cut_out = pairs.view(3, down, rows, across, columns).transpose(2, 3)
    vectors = cells.of(pairs.flatten()).view(*pairs.shape, 4).permute(0, 3, 1, 2)
    kernel = patches.linear.weight.view(5, rows, columns, 4).permute(0, 3, 1, 2)
    wanted = F.conv2d(vectors, kernel, patches.linear.bias, stride=(rows, columns))
    weighing = torch.randn(wanted.shape, generator=g, dtype=torch.float64)
    parameters = [*cells.parameters(), *patches.parameters()]
    expected = torch.autograd.grad((wanted * weighing).sum(), parameters)
    found = patches(cells, cut_out.reshape(3, down * across, rows * columns))
    assert_close(found.transpose(1, 2).reshape(wanted.shape), wanted)
    weighed = found * weighing.flatten(2).transpose(1, 2)
    assert_close(torch.autograd.grad(weighed.sum(), parameters), expected)
    flat = cut_out.reshape(3, down * across, rows * columns)
    assert_close(patches.dense(cells, flat), found)


def test_text_is_the_sum_of_its_pieces() -> None:
    bag = TextBag(64, 5)
    line = torch.full((2, 12), ord(" "), dtype=torch.uint8)
    line[0, :5] = torch.tensor([*b"You h"])
    line[1, 4:9] = torch.tensor([*b"You h"])
    with torch.no_grad():
        here, shifted = bag(line)
        one = [bag(line[:1, at : at + 3])[0] for at in range(10)]
    assert_close(here, torch.stack(one).sum(0))
    assert not bag(line[:1, 6:]).any()
    lead = [bag(line[1:, at : at + 3])[0] for at in (2, 3)]  # pieces that begin with blanks
    assert_close(shifted, here + torch.stack(lead).sum(0))


def test_recent_actions_are_told_apart_by_distance() -> None:
    batch = random_batch(5, 2, seed=3)
    batch.first_TB[2, 1] = True
    recent = RecentActions(3, 121, 4)
    start = recent.stack.initial_state(2, torch.device("cpu"))
    found, after = recent(batch, start)
    action = batch.prev_action_TB
    rows = torch.stack([action[4, 1] + 2 * 121, action[3, 1] + 121, action[2, 1]])
    assert_close(found[4, 1], recent.table.weight[rows].sum(0))
    rows = torch.stack([action[2, 1] + 2 * 121, torch.tensor(121), torch.tensor(0)])
    assert_close(found[2, 1], recent.table.weight[rows].sum(0))  # before its game: action 0
    assert after.tolist() == action[3:].tolist()


def test_options_leave_parts_out() -> None:
    batch = random_batch(3, 2, seed=1)
    other = replace(batch, chars_TBHW=batch.chars_TBHW.clone())  # type: ignore[union-attr]
    assert other.chars_TBHW is not None
    other.chars_TBHW[:, :, [0, 22, 23]] = 65
    changes = []
    for text in (False, True):
        made = make_policy("policy=compact", f"policy.encoder.text={text}").eval()
        found = [made(b, made.initial_state(2))[0] for b in (batch, other)]
        changes.append(not torch.equal(*found))
    assert changes == [False, True]
    assert make_policy("policy=compact").encoder.patches is None


def test_the_path_leads_around_the_core() -> None:
    made = make_policy("policy=compact", "policy.core.width=24").eval()
    assert isinstance(made.path, nn.Linear)  # of another width
    assert isinstance(policy().path, (nn.Identity, nn.Linear))
    for parameter in made.core.parameters():
        nn.init.zeros_(parameter)  # a core that answers 0
    batch = random_batch(2, 2)
    logits = made(batch, made.initial_state(2))[0]
    assert logits.std(dim=(0, 1)).min() > 0


def test_for_inference_and_in_the_real_game() -> None:
    batch = random_batch(3, 2, seed=5, openings=0.3)
    expected, _ = answer(batch)
    fast = for_inference(policy(), torch.device("cpu"))
    assert_close(fast(batch, policy().initial_state(2))[0], expected, atol=1e-5, rtol=1e-4)
    table = play(policy(), range(2), max_episode_steps=20, workers=1, block=2)
    assert (table["steps"] == 20).all()


def test_what_inverse_dynamics_may_see() -> None:
    """Without the previous action, with the cursor's move: one changes nothing, the other does."""
    without = ["policy.encoder.actions=0", "policy.encoder.moves=true"]
    policy = make_policy("policy=compact", "policy.params=30_000", *without).eval()
    batch = random_batch(6, 2, 0)
    with torch.no_grad():
        seen, _, state = policy(batch, policy.initial_state(2))
        other = replace(batch, prev_action_TB=(batch.prev_action_TB + 1) % policy.num_actions)
        assert torch.equal(policy(other, policy.initial_state(2))[0], seen)
        head, _, between = policy(cut(batch, slice(0, 3)), policy.initial_state(2))
        tail, _, end = policy(cut(batch, slice(3, None)), between)
        assert_close(torch.cat([head, tail]), seen, atol=1e-5, rtol=1e-4)
        assert_close(end, state, atol=1e-5, rtol=1e-4)
        policy.encoder.moves.table.weight.zero_()
        assert not torch.allclose(policy(batch, policy.initial_state(2))[0], seen)
