"""What every core promises, tried on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from agent_scaling.data.batch import Batch
from agent_scaling.policies.cores import lstm, mamba
from agent_scaling.policies.cores.lstm import LSTMCore
from agent_scaling.policies.cores.mamba import MambaCore
from agent_scaling.policies.cores.mamba1 import Mamba1Core
from agent_scaling.policies.cores.none import NoCore
from agent_scaling.policies.cores.transformer import TransformerCore
from tests.helpers.policies import cut, random_batch

MAKE: dict[str, Callable[[], Any]] = {
    "lstm": lambda: LSTMCore(6, 10, 2),
    "transformer": lambda: TransformerCore(6, 10, 2, context=4, head_dim=4),
    "transformer-long": lambda: TransformerCore(6, 12, 2, context=40, head_dim=6),
    "mamba": lambda: MambaCore(6, 10, 2, state_size=5, head_dim=6),
    "mamba1": lambda: Mamba1Core(6, 10, 2, state_size=5),
}
STEPS, LANES = 9, 3


def make(name: str) -> Any:
    torch.manual_seed(1)
    return MAKE[name]().double().eval()


def window(seed: int, openings: float) -> tuple[torch.Tensor, Batch]:
    features = torch.randn(STEPS, LANES, 6, generator=torch.Generator().manual_seed(seed))
    return features.double(), random_batch(STEPS, LANES, seed, openings)


def parts(core: Any, features: Any, batch: Batch, cuts: list[int]) -> tuple[torch.Tensor, Any]:
    """The core over windows that end at ``cuts``."""
    state, found = core.initial_state(batch.lanes), []
    for begin, end in zip([0, *cuts], [*cuts, STEPS], strict=True):
        out, state = core(features[begin:end], cut(batch, slice(begin, end)), state)
        found.append(out)
    return torch.cat(found), state


seeds, chances = st.integers(0, 10_000), st.floats(0, 0.7)


@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=20, deadline=None)
@given(seed=seeds, openings=chances, split=st.integers(1, STEPS - 1))
def test_two_windows_equal_one(name: str, seed: int, openings: float, split: int) -> None:
    core, (features, batch) = make(name), window(seed, openings)
    whole, end = parts(core, features, batch, [])
    halves, state = parts(core, features, batch, [split])
    assert_close(halves, whole)
    again, _ = core(features, batch, end)
    assert_close(core(features, batch, state)[0], again)


@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=20, deadline=None)
@given(seed=seeds, openings=chances)
def test_recurrent_equals_parallel(name: str, seed: int, openings: float) -> None:
    core, (features, batch) = make(name), window(seed, openings)
    whole, _ = parts(core, features, batch, [])
    assert_close(parts(core, features, batch, list(range(1, STEPS)))[0], whole)


@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=10, deadline=None)
@given(seed=seeds, openings=chances)
def test_lanes_together_equal_lanes_alone(name: str, seed: int, openings: float) -> None:
    core, (features, batch) = make(name), window(seed, openings)
    together, state = core(features, batch, core.initial_state(LANES))
    for lane in range(LANES):
        own = slice(lane, lane + 1)
        alone, own_state = core(
            features[:, own], cut(batch, slice(None), own), core.initial_state(1)
        )
        assert_close(alone, together[:, own])
        for ours, theirs in zip(own_state, state, strict=True):
            assert_close(ours, theirs[:, own])


@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=10, deadline=None)
@given(seed=seeds, opening=st.integers(0, STEPS - 1))
def test_reset_inside_a_window_equals_a_new_state(name: str, seed: int, opening: int) -> None:
    """Whatever was before an opening, also in the state that came in, is gone."""
    core, (features, batch) = make(name), window(seed, 0.0)
    _, old = core(features.flip(0), batch, core.initial_state(LANES))
    batch.first_TB[opening] = True
    out, _ = core(features, batch, old)
    tail = cut(batch, slice(opening, None))
    fresh, _ = core(features[opening:], tail, core.initial_state(LANES))
    assert_close(out[opening:], fresh)


@pytest.mark.parametrize("name", MAKE)
def test_past_matters_and_future_does_not(name: str) -> None:
    core, (features, batch) = make(name), window(0, 0.0)
    features.requires_grad_(True)
    out, _ = core(features, batch, core.initial_state(LANES))
    (gradient,) = torch.autograd.grad(out[5, 1].square().sum(), features)
    reached = gradient.abs().sum(-1) > 0
    assert reached[2:6, 1].all()
    assert not reached[6:].any()
    assert not reached[:, [0, 2]].any()


@pytest.mark.parametrize("name", MAKE)
def test_state_is_tensors_with_lanes_second_that_hold_no_more_than_they_need(name: str) -> None:
    core, (features, batch) = make(name), window(0, 0.3)
    before = core.initial_state(LANES)
    _, after = core(features, batch, before)
    for old, new in zip(before, after, strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        assert old.shape[1] == LANES


@pytest.mark.parametrize("name", MAKE)
def test_bf16_autocast_keeps_the_state_as_it_is(name: str) -> None:
    torch.manual_seed(0)
    core, (features, batch) = MAKE[name](), window(3, 0.2)
    expected, _ = core(features.float(), batch, core.initial_state(LANES))
    with torch.autocast("cpu", torch.bfloat16):
        state = core.initial_state(LANES)
        out, after = core(features.float(), batch, state)
    assert_close(out.float(), expected, atol=0.05, rtol=0.05)
    assert [part.dtype for part in after] == [part.dtype for part in state]


def test_an_lstm_without_kernels_for_bf16_runs_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm, "has_bf16", lambda: False)
    core, (features, batch) = LSTMCore(6, 5), window(3, 0.2)
    expected, _ = core(features.float(), batch, core.initial_state(LANES))
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = core(features.float(), batch, core.initial_state(LANES))
    assert_close(out, expected, atol=0, rtol=0)


def test_no_core_remembers_nothing_and_changes_nothing() -> None:
    core, (features, batch) = NoCore(6), window(0, 0.3)
    out, state = core(features, batch, core.initial_state(LANES))
    assert out is features
    assert state == ()
    assert core.width == 6


def test_transformer_sees_its_context_and_no_more() -> None:
    core = TransformerCore(6, 8, layers=1, context=4, head_dim=4).double()
    features, batch = window(0, 0.0)
    features.requires_grad_(True)
    out, _ = core(features, batch, core.initial_state(LANES))
    (gradient,) = torch.autograd.grad(out[7, 0].square().sum(), features)
    assert (gradient[:, 0].abs().sum(-1) > 0).nonzero().flatten().tolist() == [4, 5, 6, 7]


def test_mamba_scan_equals_the_recurrence_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double loop over frames and features, and chunks shorter than the window."""
    core, (features, batch) = make("mamba"), window(4, 0.3)
    expected, _ = core(features, batch, core.initial_state(LANES))
    for chunk in (1, 2, 4, STEPS):
        monkeypatch.setattr(mamba, "CHUNK", chunk)
        assert_close(core(features, batch, core.initial_state(LANES))[0], expected)
    g = torch.Generator().manual_seed(0)
    x, write, read = (torch.randn(STEPS, 1, *s, generator=g) for s in ((2, 3), (4,), (4,)))
    log_decay, first = -torch.rand(STEPS, 1, 2, generator=g), batch.first_TB[:, :1]
    state = torch.randn(1, 2, 3, 4, generator=g)
    y, end = mamba.scan_chunk(x, log_decay, write, read, first, state)
    for t in range(STEPS):
        for head in range(2):
            for p in range(3):
                kept = 0.0 if first[t, 0] else log_decay[t, 0, head].exp()
                state[0, head, p] = kept * state[0, head, p] + x[t, 0, head, p] * write[t, 0]
                assert_close(y[t, 0, head, p], state[0, head, p] @ read[t, 0])
    assert_close(end, state)


@pytest.mark.parametrize("name", MAKE)
def test_every_parameter_is_trained(name: str) -> None:
    core, (features, batch) = make(name), window(5, 0.2)
    core(features, batch, core.initial_state(LANES))[0].square().sum().backward()
    for key, parameter in nn.Module.named_parameters(core):
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key
