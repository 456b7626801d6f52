"""Activation checkpointing inside of encoders: stages that the backward pass computes again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from agent_scaling.policies.cores.pieces import still

PIECES = 8
"""Pieces in which the frames of a stage are run where no BatchNorm joins them."""


def recomputed(
    stage: Callable[..., Tensor], layers: Iterable[nn.Module], *given_NX: Tensor
) -> Tensor:
    """Run ``stage(*given_NX)``; the backward pass keeps what is given, and computes it again.

    Outputs and gradients are the same up to the order of sums. BatchNorm takes the statistics of
    all frames, and counts them once.

    Args:
        stage: A function of each frame, and of others through BatchNorm alone.
        layers: The modules that it runs.
        given_NX: Tensors whose first axis is the frame.
    """
    modules = [module for layer in layers for module in layer.modules()]
    norms = [m for m in modules if isinstance(m, _BatchNorm) and m.training]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), still(norms)

    if norms:
        whole: Tensor = checkpoint(
            stage, *given_NX, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )
        return whole
    pieces = zip(*(tensor.chunk(PIECES) for tensor in given_NX), strict=True)
    return torch.cat(
        [
            checkpoint(stage, *piece, use_reentrant=False, preserve_rng_state=False)
            for piece in pieces
        ]
    )
