"""Scaling laws for imitation and reinforcement learning in games."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_scaling.batch import Batch
    from agent_scaling.checkpoint import load_policy
    from agent_scaling.flops import flops_per_frame

__all__ = ["Batch", "flops_per_frame", "load_policy"]

_HOMES = {"Batch": "batch", "flops_per_frame": "flops", "load_policy": "checkpoint"}


def __getattr__(name: str) -> Any:
    # On demand: game processes import the package too, and need no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"agent_scaling.{_HOMES[name]}"), name)
