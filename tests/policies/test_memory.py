"""A step's memory, computed on the meta device, is what a step allocates."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from agent_scaling.config.call import call_verb
from agent_scaling.data.batch import blank_batch
from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.cores.transformer import TransformerCore
from agent_scaling.policies.counting import memory
from agent_scaling.policies.counting.memory import (
    StepMemory,
    drop_gradient,
    learn,
    step_memory,
    window,
    with_checkpoint,
)
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.formats import short
from tests.helpers.runs import composed

STEPS, LANES = 4, 64


@pytest.fixture(autouse=True)
def few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MANY", LANES)


def allocated(policy: Policy) -> int:
    """The most bytes that torch's own allocator has handed out at once in a step on the CPU."""
    batch = blank_batch(STEPS, LANES)
    batch.openings = ()
    batch.action_TB.zero_()
    for parameter in policy.parameters():
        parameter.register_post_accumulate_grad_hook(drop_gradient)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        learn(policy.train(), batch)
    assert seen.profiler is not None
    now = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


# A CPU's LSTM is a kernel of its own, whose backward pass takes some more than cells do.
CASES = [
    ("compact", "lstm", False),
    ("compact", "transformer", True),
    ("compact", "mamba", True),
    ("compact", "mamba1", False),
    ("resnet_lstm", "lstm", False),
    ("resnet_lstm", "none", True),
]


@pytest.mark.parametrize(("policy", "core", "recomputes"), CASES)
def test_a_step_allocates_what_is_computed(policy: str, core: str, recomputes: bool) -> None:
    torch.manual_seed(0)
    again = f"policy.encoder.checkpoint={str(recomputes).lower()}"
    made = make_policy(f"policy={policy}", "policy.params=1e5", f"policy/core={core}", again)
    _, batch_bytes = window(made, STEPS)
    computed = step_memory(made, STEPS).per_frame * STEPS * LANES - batch_bytes
    assert allocated(made) == pytest.approx(computed, rel=0.1)


def test_attention_keeps_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs' kernel keeps a number per row of scores, the plain formula all of them."""
    made = make_policy(
        "policy=compact", "policy.params=1e5", "policy/core=transformer", "policy.core.head_dim=8"
    )
    assert isinstance(made.core, TransformerCore)
    found = step_memory(made, STEPS).per_frame
    monkeypatch.setattr(memory, "Attention", nullcontext)
    scores = 4 * (STEPS + made.core.context - 1)  # float32, of a head
    assert step_memory(made, STEPS).per_frame - found > scores * made.core.layers


def test_lanes_that_fit_leave_room_for_one_more_at_most() -> None:
    made = StepMemory(state=16_000_000, per_frame=30_000.0)
    lanes = made.most_lanes(1e9, 80)
    assert made.total(80 * lanes) <= 0.9e9 < made.total(80 * (lanes + 1))
    assert made.most_lanes(16e6, 80) == 0


@pytest.mark.parametrize(("policy", "least"), [("resnet_lstm", 2.5), ("compact", 2.5)])
def test_a_recomputing_encoder_takes_less(policy: str, least: float) -> None:
    made = make_policy(f"policy={policy}", "policy.params=3e5")
    again = with_checkpoint(made)
    assert again is not None
    assert made.encoder.checkpoint is False
    assert step_memory(made, 16).per_frame > least * step_memory(again, 16).per_frame
    assert with_checkpoint(again) is None


def test_the_verb_prints_lanes_by_device(capsys: pytest.CaptureFixture[str]) -> None:
    config = composed("flops", ["policy=compact", "policy.params=1e5", "unroll_length=16"])
    call_verb(config)
    printed = capsys.readouterr().out
    (row,) = (line for line in printed.splitlines() if "as it is" in line)
    lanes = [int(cell.replace(",", "")) for cell in row.split()[-3:]]
    made = make_policy("policy=compact", "policy.params=1e5")
    assert f"{short(16 * made.num_params, gap=' ')}B for weights, gradients" in printed
    assert lanes == [step_memory(made, 16).most_lanes(1e9 * size, 16) for size in (24, 80, 141)]
