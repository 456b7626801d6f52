from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agent_scaling.policies.cores import selective_scan as scans
from agent_scaling.policies.cores.mamba1 import Mamba1Core
from tests.helpers.policies import random_batch

STEPS, LANES, WIDTH, SIZE = 13, 2, 3, 4


def drawn(steps: int = STEPS, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return {
        "x_TBD": normal(steps, LANES, WIDTH),
        "step_TBD": normal(steps, LANES, WIDTH).exp() / 10,
        "write_TBN": normal(steps, LANES, SIZE),
        "read_TBN": normal(steps, LANES, SIZE),
        "first_TB": torch.rand(steps, LANES, generator=g) < 0.3,
        "rate_DN": normal(WIDTH, SIZE).exp(),
        "state_BDN": normal(LANES, WIDTH, SIZE),
    }


def by_hand(given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The equation, number by number."""
    y = torch.zeros_like(given["x_TBD"])
    state = given["state_BDN"].clone()
    for t in range(len(y)):
        for lane in range(LANES):
            for d in range(WIDTH):
                step = given["step_TBD"][t, lane, d]
                kept = 0.0 if given["first_TB"][t, lane] else torch.exp(-step * given["rate_DN"][d])
                fed = step * given["x_TBD"][t, lane, d] * given["write_TBN"][t, lane]
                state[lane, d] = kept * state[lane, d] + fed
                y[t, lane, d] = state[lane, d] @ given["read_TBN"][t, lane]
    return y, state


@pytest.mark.parametrize("scan", [scans.selective_scan, scans.scan_by_operators])
@pytest.mark.parametrize("chunk", [1, 4, 5, STEPS])
def test_scan_is_the_recurrence(
    chunk: int, scan: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "CHUNK", chunk)
    given = drawn()
    y, state = scan(**given)
    expected, end = by_hand(given)
    assert_close(y, expected)
    assert_close(state, end)
    opening = {k: v[:1] if k.split("_")[1].startswith("T") else v for k, v in given.items()}
    alone, end_alone = scans.selective_scan(**opening)
    assert_close(alone, expected[:1])
    assert end_alone.shape == end.shape


def test_gradients_depend_neither_on_chunks_nor_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for scan in (scans.scan_by_operators, scans.selective_scan):
        for chunk in (STEPS, 4, 5):
            monkeypatch.setattr(scans, "CHUNK", chunk)
            given = drawn()
            leaves = [
                value.requires_grad_() for value in given.values() if value.is_floating_point()
            ]
            y, state = scan(**given)
            found.append(torch.autograd.grad(y.square().sum() + state.square().sum(), leaves))
    for other in found[1:]:
        assert_close(other, found[0])


def test_gradients_are_those_of_differences() -> None:
    given = drawn(6)
    names = [name for name, value in given.items() if value.is_floating_point()]
    first = given["first_TB"]

    def scan(*values: Tensor) -> Any:
        named = dict(zip(names, values, strict=True))
        return scans.selective_scan(**named, first_TB=first)

    assert torch.autograd.gradcheck(scan, [given[name].requires_grad_() for name in names])


def test_large_decays_do_not_overflow() -> None:
    given = drawn(40)
    given["step_TBD"] = given["step_TBD"] * 1e4
    y, state = scans.selective_scan(**given)
    assert y.isfinite().all()
    assert state.isfinite().all()


def saved_bytes(steps: int) -> int:
    """Memory that a forward pass keeps for the backward pass."""
    torch.manual_seed(0)
    core, batch = Mamba1Core(8, 8, 1, state_size=64), random_batch(steps, 1)
    batch.openings = ()
    batch.first_TB[:] = False
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        core(torch.randn(steps, 1, 8, requires_grad=True), batch, core.initial_state(1))
    return sum(seen.values())


def test_states_of_all_frames_are_never_kept() -> None:
    frames, inner, size, number = 512, 16, 64, 4
    assert saved_bytes(2 * frames) - saved_bytes(frames) < frames * inner * size * number / 2


def documented_kernel(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    return_last_state: bool,
) -> Any:
    """What ``mamba_ssm.ops.selective_scan_interface.selective_scan_fn`` computes."""
    assert return_last_state
    assert all(part.is_contiguous() for part in (u, delta, B, C))
    state = u.new_zeros(*u.shape[:2], A.shape[1])
    outputs = []
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        state = torch.exp(step * A) * state + step * u[:, :, t, None] * B[:, None, :, t]
        outputs.append((state * C[:, None, :, t]).sum(-1))
    return torch.stack(outputs, dim=2), state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_is_given_first_states_and_resets(dtype: torch.dtype) -> None:
    given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in drawn(seed=3).items()}
    expected, end = scans.selective_scan(**given)
    y, state = scans.fused_scan(documented_kernel, **given)
    assert_close(y, expected)
    assert_close(state, end)
