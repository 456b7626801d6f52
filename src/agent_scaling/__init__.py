"""Scaling laws for imitation and reinforcement learning in games."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_scaling.agent import Agent, load_agent
    from agent_scaling.batch import Batch
    from agent_scaling.checkpoint import load_policy, save_policy
    from agent_scaling.errors import InputError
    from agent_scaling.flops import flops_per_frame
    from agent_scaling.library import make_policy, play_episodes, read_batches
    from agent_scaling.policy import Policy
    from agent_scaling.scaling.fitted import Laws, fit_laws

__all__ = [
    "Agent",
    "Batch",
    "InputError",
    "Laws",
    "Policy",
    "fit_laws",
    "flops_per_frame",
    "load_agent",
    "load_policy",
    "make_policy",
    "play_episodes",
    "read_batches",
    "save_policy",
]

_HOMES = {
    "agent": ("Agent", "load_agent"),
    "batch": ("Batch",),
    "checkpoint": ("load_policy", "save_policy"),
    "errors": ("InputError",),
    "flops": ("flops_per_frame",),
    "library": ("make_policy", "play_episodes", "read_batches"),
    "policy": ("Policy",),
    "scaling.fitted": ("Laws", "fit_laws"),
}


def __getattr__(name: str) -> Any:
    # On demand: game processes import the package too, and need no torch.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"agent_scaling.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
