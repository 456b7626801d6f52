"""Import paths of version 0.1, which checkpoints and users' configs still name."""

from __future__ import annotations

from typing import Any

RENAMED = {
    "agent_scaling.checkpoint.load_policy": "agent_scaling.policies.checkpoints.load.load_policy",
    "agent_scaling.cores.": "agent_scaling.policies.cores.",
    "agent_scaling.encoders.": "agent_scaling.policies.encoders.",
    "agent_scaling.modules.": "agent_scaling.training.modules.",
    "agent_scaling.objective.": "agent_scaling.training.objectives.impala.",
    "agent_scaling.optim.OptimizerFactory": (
        "agent_scaling.training.optim.optimizer.OptimizerFactory"
    ),
    "agent_scaling.policy.": "agent_scaling.policies.policy.",
    "agent_scaling.rewards.": "agent_scaling.training.objectives.rewards.",
    "agent_scaling.schedules.": "agent_scaling.training.optim.schedules.",
    "agent_scaling.sizes.": "agent_scaling.policies.sizes.",
    "agent_scaling.sources.": "agent_scaling.data.recordings.",
    "agent_scaling.teacher.": "agent_scaling.training.objectives.teacher.",
    "agent_scaling.tracking.BufferedMLFlowLogger": (
        "agent_scaling.tracking.logger.BufferedMLFlowLogger"
    ),
}
"""Old beginning of an import path → its beginning now."""


def current_path(path: str) -> str:
    """Return the current form of an import path."""
    for old, new in RENAMED.items():
        if path.startswith(old):
            return new + path.removeprefix(old)
    return path


def with_current_paths(config: object) -> Any:
    """Return a copy of a plain config in which each ``_target_`` is a current path."""
    if isinstance(config, dict):
        return {
            key: current_path(value)
            if key == "_target_" and isinstance(value, str)
            else with_current_paths(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(with_current_paths(value) for value in config)
    return config
