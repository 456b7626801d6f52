"""Runs a part of a policy over a long window in pieces, which the backward pass computes again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

State = tuple[Tensor, ...]


def in_pieces(
    part: Callable[..., tuple[Tensor, State]], pieces: Iterable[tuple[object, ...]], state: State
) -> tuple[Tensor, State]:
    """Run ``part(*piece, state)`` over consecutive pieces of a window, and join its outputs.

    Of each piece, only the inputs and the output are kept for the backward pass; the state crosses
    pieces with its gradient, so that the whole is one window. BatchNorm takes the statistics of a
    piece, and counts it once.

    Args:
        part: An encoder or a core.
        pieces: Its arguments before the state, piece by piece.
        state: The state before the window.

    Returns:
        The outputs [T, B, D] and the state after the window.
    """
    outputs: list[Tensor] = []
    modules = part.modules() if isinstance(part, nn.Module) else ()
    norms = [module for module in modules if isinstance(module, _BatchNorm)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), still(norms)

    for piece in pieces:
        if torch.is_grad_enabled():
            output, state = checkpoint(
                part,
                *piece,
                state,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=contexts,
            )
        else:
            output, state = part(*piece, state)
        outputs.append(output)
    return torch.cat(outputs), state


@contextlib.contextmanager
def still(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep the running statistics of BatchNorms as they are."""
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
