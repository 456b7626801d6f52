from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from agent_scaling.batch import blank_batch
from agent_scaling.cores.lstm import LSTMCore
from agent_scaling.encoders.nethack import NetHackEncoder
from agent_scaling.errors import InputError
from agent_scaling.flops import flops_per_frame
from agent_scaling.policy import Policy

SHAPES = [
    {"width": 32, "map_width": 16, "status_width": 32, "message_width": 8, "channel_scale": 0.25},
    {"width": 48, "map_width": 64, "blocks": 2, "residual_layers": 3, "fc_layers": 1},
    {"width": 64, "map_width": 32, "residual_blocks": 1, "crop": False, "prev_action": False},
]


def policy(shape: dict[str, object]) -> Policy:
    return Policy(NetHackEncoder(**shape), lambda width: LSTMCore(width, 40, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_model_convention_equals_count_on_meta_device(shape: dict[str, object]) -> None:
    made = policy(shape).to("meta")
    batch = blank_batch(3, 2, device="meta")
    batch.openings = ()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made(batch, made.initial_state(2))
    assert flops_per_frame(made, training=False) * 6 == counter.get_total_flops()
    assert flops_per_frame(made) == 3 * flops_per_frame(made, training=False)


def test_paper_convention_adds_the_dense_message_line_and_lstm_biases() -> None:
    made = policy(SHAPES[0])
    extra = flops_per_frame(made, "paper") - flops_per_frame(made, "model")
    assert extra == 3 * (2 * 20_480 * 8 + 2 * 4 * 40)


def test_6nd_is_six_per_parameter() -> None:
    made = policy(SHAPES[0])
    assert flops_per_frame(made, "6nd") == 6 * sum(p.numel() for p in made.parameters())


def test_default_width_costs_what_was_measured() -> None:
    """46.5 MFLOP forward per frame at h = 512 and scale 1, where the release counts it."""
    made = Policy(NetHackEncoder(), lambda width: LSTMCore(width, 512))
    assert flops_per_frame(made, "paper", training=False) == pytest.approx(46.5e6, rel=1e-3)


def test_unknown_convention_is_refused() -> None:
    with pytest.raises(InputError, match="hardwar"):
        flops_per_frame(policy(SHAPES[0]), "hardwar")
