"""What a policy sees, option by option."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nle import nethack
from torch.testing import assert_close

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import KEYS
from agent_scaling.envs.screens import NO_GLYPH
from agent_scaling.policies.encoders.inventory import ITEMS, Inventory
from agent_scaling.policies.encoders.moves import Moves
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import random_batch, small_policy


def logits(policy: Policy, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = policy.eval()(batch, policy.initial_state(batch.lanes))[0]
    return found


ALL = {"inventory": True, "frames": 2}


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ({"crop": False}, None),
        ({"prev_action": False}, "prev_action_TB"),
        ({"colors": False}, "colors_TBHW"),
        ({"inventory": False}, "inv_glyphs_TBI"),
    ],
)
def test_what_is_not_seen_changes_nothing(option: dict[str, bool], field: str | None) -> None:
    batch, other = random_batch(4, 2, seed=1), random_batch(4, 2, seed=2)
    if field is None:  # the cursor is seen through the crop alone
        field = "cursor_TB2"
    changed = replace(batch, **{field: getattr(other, field)})
    seeing, blind = small_policy(**ALL), small_policy(**{**ALL, **option})
    assert not torch.allclose(logits(seeing, batch), logits(seeing, changed))
    assert_close(logits(blind, batch), logits(blind, changed), atol=0, rtol=0)
    assert blind.num_params < seeing.num_params


def test_lines_that_are_left_out() -> None:
    policy = small_policy(message_width=0, status_width=0)
    batch, changed = random_batch(3, 2, seed=1), random_batch(3, 2, seed=1)
    changed.chars_TBHW[:, :, [0, 22, 23]] = 65
    assert_close(logits(policy, batch), logits(policy, changed), atol=0, rtol=0)


def test_policy_says_what_it_reads() -> None:
    assert small_policy().observations == ("chars", "colors", "cursor")
    assert small_policy(inventory=True).observations[-1] == "inv_glyphs"


def test_items_and_keys_are_those_of_the_game() -> None:
    objects = (nethack.GLYPH_OBJ_OFF, nethack.NUM_OBJECTS)
    bodies = [
        (begin, nethack.NUMMONS) for begin in (nethack.GLYPH_BODY_OFF, nethack.GLYPH_STATUE_OFF)
    ]
    ranges = sorted([objects, *bodies])
    assert [glyph for begin, count in ranges for glyph in range(begin, begin + count)] == [*ITEMS]
    assert nethack.MAX_GLYPH == NO_GLYPH
    assert [int(key) for key in nethack.ACTIONS] == [*KEYS]


def test_inventory_is_the_sum_of_its_items_rows() -> None:
    """The product with many-hot rows that the look-ups stand for."""
    torch.manual_seed(0)
    inventory = Inventory(6)
    glyphs = torch.tensor([[ITEMS[0], ITEMS[400], ITEMS[400], NO_GLYPH], [NO_GLYPH] * 4])
    hot = torch.zeros(2, len(ITEMS) + 1)
    hot[0, [1, 401]] = torch.tensor([1.0, 2.0])
    expected = torch.nn.functional.elu(
        inventory.out(torch.nn.functional.elu(hot @ inventory.table + inventory.bias))
    )
    assert_close(inventory(glyphs.to(torch.int16)), expected)


def test_inventory_learns_rows_of_items_alone() -> None:
    inventory = Inventory(6)
    inventory(torch.tensor([[ITEMS[7], NO_GLYPH]])).square().sum().backward()
    gradient = inventory.table.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [8]


def test_data_without_an_inventory_are_refused() -> None:
    batch = replace(random_batch(2, 2), inv_glyphs_TBI=None)
    with pytest.raises(InputError, match="inv_glyphs"):
        logits(small_policy(inventory=True), batch)


def test_no_frame_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="frames=0"):
        small_policy(frames=0)


@pytest.mark.parametrize("colors", [True, False])
def test_memory_format_changes_no_output(colors: bool) -> None:
    batch = random_batch(3, 2, seed=5)
    options = {**ALL, "colors": colors}
    answers = [logits(small_policy(channels_last=last, **options), batch) for last in (True, False)]
    assert_close(*answers, atol=1e-5, rtol=1e-5)


def test_moves_are_the_cursor_s_way_since_the_frame_before() -> None:
    batch = random_batch(4, 1)
    batch.cursor_TB2[:, 0] = torch.tensor([[5, 5], [4, 6], [4, 6], [20, 6]])  # type: ignore[index]
    batch.first_TB[0] = True
    moves = Moves(25)
    moves.table.weight.data = torch.eye(25)
    seen, state = moves(batch, moves.stack.initial_state(1, torch.device("cpu")))
    steps = [divmod(at, 5) for at in seen[:, 0].argmax(-1).tolist()]
    assert [(down - 2, right - 2) for down, right in steps[1:]] == [(-1, 1), (0, 0), (2, 0)]
    assert state[0, 0].tolist() == [20, 6]
    policy, changed = small_policy(moves=True, crop=False), random_batch(4, 1)
    changed.cursor_TB2[:, 0] = batch.cursor_TB2[:, 0] + 1  # type: ignore[index]
    assert torch.equal(logits(policy, batch)[1:], logits(policy, changed)[1:])
    changed.cursor_TB2[2, 0, 1] += 1  # type: ignore[index]
    assert not torch.equal(logits(policy, batch)[2], logits(policy, changed)[2])
