"""The selective scan on a CPU, chunk by chunk, in memory that is used again for each chunk.

Operators that autograd records would do the same with a tensor of all states of a chunk for each of
some twenty steps: between them, what is kept for the backward pass splits the heap, and a window of
thousands of frames leaves the process with a hundred times what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class ChunkedScan(torch.autograd.Function):
    """state_t = exp(−step_t · rate) · state_{t−1} + step_t · x_t ⊗ write_t, y_t = state_t · read_t.

    The backward pass has the state before each chunk, and computes those of its frames again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        chunk: int,
        x_TBD: Tensor,
        step_TBD: Tensor,
        write_TBN: Tensor,
        read_TBN: Tensor,
        rate_DN: Tensor,
        keep_TB: Tensor,
        state_BDN: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """y [T, B, D] and the state after the window; ``keep`` is 0 where the state is zeroed."""
        given = (x_TBD, step_TBD, write_TBN, read_TBN, rate_DN, keep_TB)
        room = rooms(2, chunk, x_TBD, state_BDN)
        before, outputs = [], []
        for begin in range(0, len(x_TBD), chunk):
            before.append(state_BDN)
            _, states_TBDN = scanned(given, begin, chunk, state_BDN, room)
            read = read_TBN[begin : begin + chunk]
            outputs.append(torch.matmul(states_TBDN, read[..., None]).squeeze(-1))
            state_BDN = states_TBDN[-1].clone()
        ctx.chunk = chunk
        ctx.save_for_backward(*given, torch.stack(before))
        return torch.cat(outputs), state_BDN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_TBD: Tensor, after_BDN: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments, given those of the results; from the last chunk backwards."""
        *given, before_CBDN = ctx.saved_tensors
        x_TBD, step_TBD, write_TBN, read_TBN, rate_DN, _ = given
        found = [torch.empty_like(part) for part in (x_TBD, step_TBD, write_TBN, read_TBN)]
        rate = torch.zeros_like(rate_DN)
        room = rooms(3, ctx.chunk, x_TBD, after_BDN)
        for index in reversed(range(len(before_CBDN))):
            begin = index * ctx.chunk
            frames = slice(begin, begin + ctx.chunk)
            x, step, write, read = (part[frames] for part in (x_TBD, step_TBD, write_TBN, read_TBN))
            decay, states = scanned(given, begin, ctx.chunk, before_CBDN[index], room)
            # What a frame's state is worth: to its own output, and to the states after it.
            worth = room[2][: len(x)]
            outer(y_TBD[frames], read, worth)
            worth[-1] += after_BDN
            parts, decays = worth.unbind(), decay.unbind()
            for t in range(len(parts) - 1, 0, -1):
                parts[t - 1].addcmul_(decays[t], parts[t])
            after_BDN = decay[0] * worth[0]
            found[3][frames] = torch.matmul(y_TBD[frames][:, :, None], states).squeeze(2)
            # decay becomes the gradient of the logarithm of each decay.
            decay.mul_(worth)
            decay[0].mul_(before_CBDN[index])
            decay[1:].mul_(states[:-1])
            fed = torch.matmul(worth, write[..., None]).squeeze(-1)
            found[0][frames] = fed * step
            found[1][frames] = fed * x - torch.mul(decay, rate_DN, out=states).sum(-1)
            found[2][frames] = torch.matmul((x * step)[:, :, None], worth).squeeze(2)
            rate -= torch.mul(decay, step[..., None], out=states).sum((0, 1))
        return None, *found, rate, None, after_BDN


def rooms(count: int, chunk: int, x_TBD: Tensor, state_BDN: Tensor) -> list[Tensor]:
    """Memory for the states of a chunk [chunk, B, D, N], so many times."""
    steps = min(chunk, len(x_TBD))
    return [state_BDN.new_empty((steps, *state_BDN.shape)) for _ in range(count)]


def outer(left_TBD: Tensor, right_TBN: Tensor, into_TBDN: Tensor) -> None:
    """Write the product of each frame's two vectors."""
    left, right = left_TBD.flatten(0, 1)[..., None], right_TBN.flatten(0, 1)[:, None]
    torch.bmm(left, right, out=into_TBDN.flatten(0, 1))


def scanned(
    given: Sequence[Tensor], begin: int, chunk: int, state_BDN: Tensor, room: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Decays and states of a chunk's frames [T, B, D, N], in the first two rooms."""
    frames = slice(begin, begin + chunk)
    x, step, write, _, rate_DN, keep = given
    x, step, write, keep = x[frames], step[frames], write[frames], keep[frames]
    decay, states = room[0][: len(x)], room[1][: len(x)]
    torch.mul(step[..., None], -rate_DN, out=decay)
    decay.exp_().mul_(keep[..., None, None])
    outer(x * step, write, states)
    before = state_BDN
    for state, kept in zip(states.unbind(), decay.unbind(), strict=True):
        state.addcmul_(kept, before)
        before = state
    return decay, states
