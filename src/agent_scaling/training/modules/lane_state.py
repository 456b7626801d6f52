"""The lanes' states in checkpoints: gathered from all ranks, and dealt to ranks on resume."""

from __future__ import annotations

import torch
from lightning import Trainer
from torch import Tensor

from agent_scaling.policies.policy import State
from agent_scaling.runtime.ranks import gathered


def gathered_lanes(state: State | None, ranks: int) -> tuple[Tensor, ...] | None:
    """Gather the lanes of all ranks, in the order of ranks; every rank must call this."""
    if state is None or ranks == 1:
        return state
    parts = gathered([part.cpu() for part in state])
    return tuple(torch.cat(lanes, dim=1) for lanes in zip(*parts, strict=True))


def dealt_lanes(
    state: tuple[Tensor, ...] | None, trainer: Trainer, device: torch.device
) -> State | None:
    """Return this rank's share of the lanes that :func:`gathered_lanes` returned."""
    if state is None:
        return None
    ranks, rank = trainer.world_size, trainer.global_rank
    return tuple(part.chunk(ranks, dim=1)[rank].to(device) for part in state)
