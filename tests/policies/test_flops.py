from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from agent_scaling.data.batch import blank_batch
from agent_scaling.policies.cores import mamba, selective_scan
from agent_scaling.policies.cores.bidirectional_lstm import BidirectionalLSTMCore
from agent_scaling.policies.cores.lstm import LSTMCore
from agent_scaling.policies.cores.mamba import MambaCore
from agent_scaling.policies.cores.mamba1 import Mamba1Core
from agent_scaling.policies.cores.none import NoCore
from agent_scaling.policies.cores.transformer import TransformerCore
from agent_scaling.policies.counting.flops_table import account, layer_params
from agent_scaling.policies.encoders.nethack import NetHackEncoder
from agent_scaling.policies.encoders.release2 import Release2Encoder
from agent_scaling.policies.executed_flops import COUNTED, hardware_flops, without_memory
from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import random_batch

SHAPES = [
    {"width": 32, "map_width": 16, "status_width": 32, "message_width": 8, "channel_scale": 0.25}
    | {"blocks": 2, "residual_blocks": 1},
    {"width": 48, "map_width": 64, "blocks": 2, "residual_layers": 3, "fc_layers": 1}
    | {"residual_blocks": 1},
    {"width": 64, "map_width": 32, "residual_blocks": 1, "crop": False, "prev_action": False}
    | {"moves": True},
    {"width": 32, "map_width": 16, "blocks": 1, "frames": 3, "inventory": True},
    {"width": 32, "map_width": 16, "blocks": 2, "message_width": 0, "status_width": 0}
    | {"colors": False, "frames": 2, "crop_norm": False, "inventory": True, "inventory_width": 5},
]

CORES: dict[str, Callable[[int], Any]] = {
    "lstm": lambda width: LSTMCore(width, 40, 2),
    "bidirectional_lstm": lambda width: BidirectionalLSTMCore(width, 24, 2),
    "transformer": lambda width: TransformerCore(width, 40, 3, context=5, head_dim=20),
    "mamba": lambda width: MambaCore(width, 40, 2, state_size=8, head_dim=20),
    "mamba1": lambda width: Mamba1Core(width, 40, 2, state_size=8),
    "none": NoCore,
}


def policy(shape: dict[str, Any], core: str = "lstm") -> Policy:
    return Policy(NetHackEncoder(**shape), CORES[core])


def forward_on_meta(made: Policy, steps: int, lanes: int) -> int:
    """What a dispatcher that sees every operator counts, frame by frame."""
    ghost, batch = without_memory(made), blank_batch(1, lanes, device="meta")
    batch.openings = ()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        state = ghost.initial_state(lanes)
        for _ in range(steps):
            _, _, state = ghost(batch, state)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("shape", SHAPES)
def test_model_convention_equals_count_on_meta_device(shape: dict[str, Any], core: str) -> None:
    made = policy(shape, core)
    assert flops_per_frame(made, training=False) * 4 == forward_on_meta(made, 2, 2)
    assert flops_per_frame(made) == 3 * flops_per_frame(made, training=False)


RELEASE2 = [
    {"width": 32, "message_width": 4, "map_width": 16, "frames": 2, "whole": True},
    {"width": 24, "summed": False, "kernel": 5, "norms": False, "inventory": False},
]


@pytest.mark.parametrize("shape", RELEASE2)
def test_model_convention_of_the_second_release(shape: dict[str, Any]) -> None:
    made = Policy(Release2Encoder(**shape), CORES["mamba1"], baseline=False)
    assert flops_per_frame(made, training=False) * 4 == forward_on_meta(made, 2, 2)
    assert hardware_flops(made, 6, 3) == real_step(made, 6, 3)


# Kernels that torch's counter does not know, by the formulas of what they do.


def lstm_kernel(*shapes: Any, out_shape: Any = None) -> int:
    """Of one layer: input, two matrices, two biases, state, …"""
    (steps, lanes, width), hidden = shapes[0], shapes[5][-1]
    return int(2 * steps * lanes * 4 * hidden * (width + hidden))


def lstm_kernel_backward(*shapes: Any, out_shape: Any = None) -> int:
    return 2 * lstm_kernel(*shapes)


def real_step(made: Policy, steps: int, lanes: int) -> int:
    """The dispatcher's count of a training step on a CPU, games opening inside the window."""
    batch, lstm = random_batch(steps, lanes, seed=1), torch.ops.aten.mkldnn_rnn_layer
    known = {**COUNTED, lstm: lstm_kernel}
    known[torch.ops.aten.mkldnn_rnn_layer_backward] = lstm_kernel_backward
    optimizer = torch.optim.Adam(made.parameters())
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=known) as counter,
    ):
        logits, _, _ = made.train()(batch, made.initial_state(lanes))
        F.cross_entropy(logits.flatten(0, 1), batch.action_TB.flatten()).backward()
        optimizer.step()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("core", CORES)
def test_hardware_convention_equals_a_real_step(core: str) -> None:
    made = policy(SHAPES[0], core)
    assert hardware_flops(made, 6, 3) == real_step(made, 6, 3)
    assert flops_per_frame(made, "hardware", steps=6) * 18 == hardware_flops(made, 6, 3)


def core_surplus(core: Any, steps: int) -> int:
    """What a window's parallel form does above 3 × the frame-by-frame form, per lane."""
    if isinstance(core, (LSTMCore, BidirectionalLSTMCore, NoCore)):
        return 0
    if isinstance(core, TransformerCore):
        # Each query meets all context − 1 + T keys, and the mask hides T − 1 of them.
        return 3 * core.layers * steps * (steps - 1) * 4 * core.inner
    if isinstance(core, Mamba1Core):
        # The states of a window are computed again: x ⊗ write, not state · read.
        return core.layers * 2 * core.inner * core.state_size * steps
    block, surplus = core.blocks[0], 0
    inner, size = block.inner, block.state_size
    chunks = [min(mamba.CHUNK, steps - t) for t in range(0, steps, mamba.CHUNK)]
    for chunk in chunks:
        # read · write of all pairs of frames, and their mix of inputs; the state in and out of the
        # chunk is the recurrence's two products.
        surplus += 3 * 2 * chunk**2 * (size + inner)
    # The state that comes in has no gradient; the state that goes out gets none (two products).
    surplus -= 2 * chunks[0] * inner * size + 2 * 2 * chunks[-1] * inner * size
    return surplus * core.layers


@pytest.mark.parametrize(
    ("core", "shape", "steps"),
    [
        *((core, SHAPES[0], steps) for core in CORES for steps in (6, 20)),
        *(("lstm", shape, 6) for shape in SHAPES[1:]),  # a frame's cost, whatever the window
    ],
)
def test_hardware_differs_from_model_by_what_can_be_named(
    core: str, shape: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba, "CHUNK", 8)
    monkeypatch.setattr(selective_scan, "CHUNK", 8)
    made = policy(shape, core)
    costs = {cost.name: cost.flops for cost in made.costs()}
    # The status lines' first convolution sees bytes: no gradient of its input.
    first_layer = costs.get("status.convs.0", 0)
    # Cloning has no loss on the baseline: no backward pass.
    baseline = 2 * costs["baseline"]
    expected = steps * (flops_per_frame(made) - first_layer - baseline)
    assert hardware_flops(made, steps, 1) == expected + core_surplus(made.core, steps)


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_convention_leaves_out_the_gradient_of_what_is_seen(shape: dict[str, Any]) -> None:
    made = policy(shape)
    seen = {cost.name: cost.flops for cost in made.costs()}.get("status.convs.0", 0)
    assert flops_per_frame(made, "model") - flops_per_frame(made, "exact") == seen
    forward = [flops_per_frame(made, name, training=False) for name in ("model", "exact")]
    assert forward[0] == forward[1]


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


def test_6nd_is_what_the_published_runs_are_counted_in(reference: Path) -> None:
    """samples · 6 · parameters is the budget, to within an interval between checkpoints."""
    table = pd.read_csv(reference / "reference" / "paper" / "nethack_isoflop.csv")
    interval = 262_144  # frames; all counts of samples are multiples
    assert (table["samples"] % interval == 0).all()
    for _, run in table.groupby("run"):
        spent = 6 * run["params"] * run["samples"]
        beyond = (spent - run["flops"]) / (6 * run["params"])  # frames
        assert ((beyond >= 0) & (beyond < interval)).all()


@pytest.mark.parametrize("core", CORES)
def test_every_parameter_belongs_to_a_layer_or_the_rest(core: str) -> None:
    made = policy(SHAPES[0], core)
    owned = layer_params(made)
    assert sum(owned.values()) == made.num_params
    for cost in made.costs():
        if cost.kind in ("linear", "lstm"):
            assert 2 * owned[cost.name] >= cost.flops > 0  # weights and biases


def test_account_prints_layers_and_the_cost_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = {"_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder", **SHAPES[0]}
    core = {
        "_target_": "agent_scaling.policies.cores.lstm.LSTMCore",
        "_partial_": True,
        "width": 40,
    }
    config = {"_target_": "agent_scaling.policies.policy.Policy", "encoder": encoder, "core": core}
    per_frame = flops_per_frame(Policy(NetHackEncoder(**SHAPES[0]), lambda w: LSTMCore(w, 40)))
    known = {"peak_flops": per_frame, "utilisation": 0.5, "unroll_length": 4}
    account(policy=config, flops_budget=per_frame * 1e6, **known)
    printed = capsys.readouterr().out
    assert f"model: {per_frame:,.0f} FLOPs per frame" in printed
    assert "core.lstm.0" in printed
    assert "1,000,000" in printed
    assert f"{2e6 / 3600:,.4g}" in printed
    for wrong in ({"frames": 1, "flops_budget": 1}, {"convention": "hardware"}, {"peak_flops": 0}):
        with pytest.raises(InputError):
            account(policy=config, **wrong)


def test_unknown_convention_is_refused() -> None:
    with pytest.raises(InputError, match="hardwar"):
        flops_per_frame(policy(SHAPES[0]), "hardwar")
