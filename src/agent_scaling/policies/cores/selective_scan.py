"""The selective scan of Mamba-1 (arXiv 2312.00752): a decay per feature, state and frame.

state_t = exp(−step_t · rate) · state_{t−1} + (step_t · x_t) ⊗ write_t, and y_t = state_t · read_t.
A state is D · N numbers per lane: those of all frames at once would be the largest tensor of a
training step by far, and are never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agent_scaling.policies.cores.chunked_scan import ChunkedScan

CHUNK = 32  # frames whose states exist at once
ERASE = 1e5  # a time step after which nothing is left of a state
INSTANT = 1e-20  # a time step in which nothing decays

Kernel = Callable[..., Any]


def selective_scan(
    x_TBD: Tensor,
    step_TBD: Tensor,
    rate_DN: Tensor,
    write_TBN: Tensor,
    read_TBN: Tensor,
    first_TB: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scan a window; the state is zeroed before frames of ``first``.

    One frame is one step of the recurrence. Several are scanned in chunks of :data:`CHUNK`, each of
    which computes its states again in the backward pass: on a CPU frame by frame in memory that is
    used again, under ``torch.compile`` and on a GPU by operators. On a GPU, the kernel of the
    package ``mamba_ssm`` does it where that is installed.

    Returns:
        y [T, B, D] and the state after the window [B, D, N].
    """
    if len(x_TBD) == 1:
        return scan_step(x_TBD, step_TBD, rate_DN, write_TBN, read_TBN, first_TB, state_BDN)
    parts = (x_TBD, step_TBD, write_TBN, read_TBN, first_TB)
    if torch.compiler.is_compiling():
        return scan_by_operators(*parts, rate_DN, state_BDN)
    if not x_TBD.is_cuda:
        return scan_in_place(*parts, rate_DN, state_BDN)
    kernel = fused_kernel()
    if kernel is None:
        return scan_by_operators(*parts, rate_DN, state_BDN)
    return fused_scan(kernel, *parts, rate_DN, state_BDN)


def scan_in_place(
    x_TBD: Tensor,
    step_TBD: Tensor,
    write_TBN: Tensor,
    read_TBN: Tensor,
    first_TB: Tensor,
    rate_DN: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scan a window by :class:`ChunkedScan`, in the state's precision."""
    kept = state_BDN.dtype
    given = (part.to(kept) for part in (x_TBD, step_TBD, write_TBN, read_TBN, rate_DN, ~first_TB))
    with torch.autocast("cpu", enabled=False):
        scan: Callable[..., tuple[Tensor, Tensor]] = ChunkedScan.apply
        y_TBD, state_BDN = scan(CHUNK, *given, state_BDN)
    return y_TBD.to(x_TBD.dtype), state_BDN


def scan_by_operators(
    x_TBD: Tensor,
    step_TBD: Tensor,
    write_TBN: Tensor,
    read_TBN: Tensor,
    first_TB: Tensor,
    rate_DN: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scan a window chunk by chunk, each in log₂ :data:`CHUNK` passes."""
    parts = (x_TBD, step_TBD, write_TBN, read_TBN, first_TB)
    recomputed = torch.is_grad_enabled() and len(x_TBD) > CHUNK
    outputs: list[Tensor] = []
    for chunk in zip(*(torch.split(part, CHUNK) for part in parts), strict=True):
        given = (*chunk, rate_DN, state_BDN)
        if recomputed:
            y_TBD, state_BDN = checkpoint(
                scan_chunk, *given, use_reentrant=False, preserve_rng_state=False
            )
        else:
            y_TBD, state_BDN = scan_chunk(*given)
        outputs.append(y_TBD)
    return torch.cat(outputs), state_BDN


def scan_step(
    x_1BD: Tensor,
    step_1BD: Tensor,
    rate_DN: Tensor,
    write_1BN: Tensor,
    read_1BN: Tensor,
    first_1B: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """One frame of the recurrence."""
    decay_BDN = torch.exp(step_1BD[0, ..., None] * -rate_DN) * ~first_1B[0][:, None, None]
    fed_BD1 = (x_1BD * step_1BD)[0, ..., None]
    state = state_BDN * decay_BDN + torch.bmm(fed_BD1.to(write_1BN.dtype), write_1BN[0][:, None])
    y_BD1 = torch.bmm(state.to(read_1BN.dtype), read_1BN[0][..., None])
    return y_BD1.squeeze(-1)[None], state


def scan_chunk(
    x_TBD: Tensor,
    step_TBD: Tensor,
    write_TBN: Tensor,
    read_TBN: Tensor,
    first_TB: Tensor,
    rate_DN: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scan T frames in log₂ T passes: each adds what the frames twice as far back have left.

    A product of decays is at most 1, so that nothing overflows.
    """
    decay_TBDN = torch.exp(step_TBD[..., None] * -rate_DN) * ~first_TB[..., None, None]
    fed_TBD1 = (x_TBD * step_TBD)[..., None].to(write_TBN.dtype)
    sums_TBDN = torch.matmul(fed_TBD1, write_TBN[:, :, None])
    back = 1
    while back < len(x_TBD):
        reached = sums_TBDN[back:] + decay_TBDN[back:] * sums_TBDN[:-back]
        sums_TBDN = torch.cat([sums_TBDN[:back], reached])
        decay_TBDN = torch.cat([decay_TBDN[:back], decay_TBDN[back:] * decay_TBDN[:-back]])
        back *= 2
    states_TBDN = sums_TBDN + decay_TBDN * state_BDN
    y_TBD = torch.matmul(states_TBDN.to(read_TBN.dtype), read_TBN[..., None]).squeeze(-1)
    return y_TBD, states_TBDN[-1].clone()  # a view would keep the states of all frames


@cache
def fused_kernel() -> Kernel | None:
    """``mamba_ssm``'s selective scan for GPUs, where that package is installed."""
    try:
        module = import_module("mamba_ssm.ops.selective_scan_interface")
    except ImportError:
        return None
    kernel: Kernel = module.selective_scan_fn
    return kernel


def fused_scan(
    kernel: Kernel,
    x_TBD: Tensor,
    step_TBD: Tensor,
    write_TBN: Tensor,
    read_TBN: Tensor,
    first_TB: Tensor,
    rate_DN: Tensor,
    state_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scan a window by ``mamba_ssm``'s kernel, which knows neither first states nor resets.

    Its first N frames write the state, one column each, without time going by. A frame that opens
    a game takes so long that nothing is left, with an input that is so much smaller.

    Args:
        kernel: ``selective_scan_fn(u, delta, A, B, C, return_last_state=True)`` on [B, D, T], of
            state ← exp(delta · A) · state + delta · u ⊗ B.
    """
    lasting_TBD = torch.where(first_TB[..., None], ERASE, step_TBD)
    x_TBD = torch.where(first_TB[..., None], x_TBD * step_TBD / ERASE, x_TBD)
    lanes, width, size = state_BDN.shape
    columns_NBD = state_BDN.permute(2, 0, 1)
    unit_NBN = torch.eye(size, dtype=write_TBN.dtype, device=x_TBD.device)[:, None].expand(
        size, lanes, size
    )
    u = torch.cat([columns_NBD / INSTANT, x_TBD])
    delta = torch.cat([lasting_TBD.new_full((size, lanes, width), INSTANT), lasting_TBD])
    write = torch.cat([unit_NBN, write_TBN])
    read = torch.cat([torch.zeros_like(unit_NBN), read_TBN])
    time_last = (part.permute(1, 2, 0).contiguous() for part in (u, delta, write, read))
    u, delta, write, read = time_last
    y_BDT, state_BDN = kernel(u, delta, -rate_DN, write, read, return_last_state=True)
    return y_BDT[..., size:].permute(2, 0, 1), state_BDN
