"""Scaling laws for imitation and reinforcement learning in games."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agent_scaling.config.renamed import keep_old_modules

if TYPE_CHECKING:
    from agent_scaling.data.batch import Batch
    from agent_scaling.data.windows.read import read_batches
    from agent_scaling.playing.agent import Agent, load_agent
    from agent_scaling.playing.players import play_episodes
    from agent_scaling.policies.checkpoints.load import load_policy, save_policy
    from agent_scaling.policies.compose import make_policy
    from agent_scaling.policies.flops import flops_per_frame
    from agent_scaling.policies.policy import Policy
    from agent_scaling.runtime.errors import InputError
    from agent_scaling.scaling.api import Laws, fit_laws

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

keep_old_modules()

_HOMES = {
    "playing.agent": ("Agent", "load_agent"),
    "data.batch": ("Batch",),
    "policies.checkpoints.load": ("load_policy", "save_policy"),
    "runtime.errors": ("InputError",),
    "policies.flops": ("flops_per_frame",),
    "policies.compose": ("make_policy",),
    "playing.players": ("play_episodes",),
    "data.windows.read": ("read_batches",),
    "policies.policy": ("Policy",),
    "scaling.api": ("Laws", "fit_laws"),
}


def __getattr__(name: str) -> Any:
    # On demand: game processes import the package too, and need no torch.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"agent_scaling.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
