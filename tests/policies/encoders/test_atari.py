"""The networks for Atari: sizes and FLOPs as published, stacks that never cross games."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from agent_scaling.data.batch import Batch
from agent_scaling.policies.encoders.atari import AtariProfiles, Centring
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import random_batch
from tests.helpers.runs import composed

PUBLISHED = {1: 725, 3: 2.6e3, 5: 5e3, 8: 9.6e3, 13: 2e4, 23: 5.1e4, 34: 1.01e5, 50: 2.03e5,
             81: 4.99e5, 117: 1e6, 167: 2e6, 266: 5e6}  # fmt: skip
"""Width → parameters at four actions."""

NETWORKS = ["atari_cnn", "atari_resnet", "atari_compact"]


def atari_policy(*overrides: str, name: str = "atari_cnn") -> Policy:
    torch.manual_seed(0)
    given = [f"policy={name}", "policy.num_actions=4", *overrides]
    made: Policy = instantiate(composed("flops", given).policy)
    return made


def pixels(steps: int, lanes: int, openings: float = 0.0) -> Batch:
    g = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (steps, lanes, 84, 84), generator=g, dtype=torch.uint8)
    drawn = random_batch(steps, lanes, openings=openings)
    blank = dict.fromkeys(("chars_TBHW", "colors_TBHW", "cursor_TB2", "inv_glyphs_TBI"))
    return replace(drawn, **blank, frame_TBHW=frames)


@pytest.mark.parametrize(("width", "params"), PUBLISHED.items())
def test_widths_give_the_published_sizes(width: int, params: float) -> None:
    found = atari_policy(f"policy.encoder.width={width}").num_params
    assert found == params if width == 1 else found == pytest.approx(params, rel=0.01)


@pytest.mark.parametrize(("width", "ratio"), [(1, 17.0), (13, 12.6), (117, 6.0)])
def test_the_published_counter_charges_convolutions_at_their_inputs_size(
    width: int, ratio: float
) -> None:
    policy = atari_policy(f"policy.encoder.width={width}")
    model, paper = (flops_per_frame(policy, c) for c in ("model", "paper_atari"))
    assert paper / model == pytest.approx(ratio, abs=0.05)


@pytest.mark.parametrize(("width", "ratio"), [(1, 1.47), (13, 1.27), (117, 1.06)])
def test_model_charges_the_first_layer_a_gradient_that_nobody_computes(
    width: int, ratio: float
) -> None:
    policy = atari_policy(f"policy.encoder.width={width}")
    model, exact = (flops_per_frame(policy, c) for c in ("model", "exact"))
    assert model / exact == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_is_what_a_training_step_executes(name: str) -> None:
    policy = atari_policy(name=name)
    assert hardware_flops(policy, 4, 1) == 4 * flops_per_frame(policy, "exact")


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_what_the_forward_pass_executes(name: str) -> None:
    policy = atari_policy(name=name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy(pixels(1, 1), policy.initial_state(1))
    assert counter.get_total_flops() == flops_per_frame(policy, training=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_window_cut_in_two_gives_the_same(name: str) -> None:
    policy, batch = atari_policy(name=name).eval(), pixels(8, 3, openings=0.2)
    whole, _, _ = policy(batch, policy.initial_state(3))
    state, parts = policy.initial_state(3), []
    for steps in (slice(0, 3), slice(3, 8)):
        logits, _, state = policy(batch._map(lambda t, s=steps: t[s]), state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts), whole)


def test_frames_of_an_earlier_game_are_not_seen() -> None:
    policy, batch = atari_policy().eval(), pixels(6, 1)
    batch.first_TB[3, 0] = True
    before, _, _ = policy(batch, policy.initial_state(1))
    assert batch.frame_TBHW is not None
    batch.frame_TBHW[:3] = 0
    after, _, _ = policy(batch, policy.initial_state(1))
    assert torch.equal(before[3:], after[3:])
    assert not torch.equal(before[:3], after[:3])


def test_a_policy_of_another_game_says_so() -> None:
    policy = atari_policy()
    with pytest.raises(InputError, match="Atari"):
        policy(random_batch(1, 1), policy.initial_state(1))
    with pytest.raises(InputError, match="NetHack"):
        pixels(1, 1).terminal()


def test_what_moves_is_as_bright_on_any_background() -> None:
    """Centring takes the mean screen away, in evaluation as in training."""
    batch = pixels(8, 4)
    assert batch.frame_TBHW is not None
    batch.frame_TBHW.fill_(100)
    batch.frame_TBHW[:, :, 40, 40] = torch.tensor([90, 110, 90, 110], dtype=torch.uint8)
    for background in (0, 120):
        centring = Centring()
        for _ in range(3):
            learnt = centring(batch.frame_TBHW + background)
        shown = centring.eval()(batch.frame_TBHW + background)
        torch.testing.assert_close(shown, learnt)
        assert shown[:, :40].abs().max() == 0
        assert shown[:4, 40, 40].tolist() == pytest.approx([-84, 84, -84, 84], rel=1e-3)


def test_a_profile_of_no_size_is_refused() -> None:
    with pytest.raises(InputError, match="profiles=0"):
        AtariProfiles(profiles=0)
