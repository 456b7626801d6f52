"""Import paths of version 0.1, which checkpoints, configs and users' programs still name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
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


MODULES = {
    "agent_scaling.costs": "agent_scaling.policies.costs",
    "agent_scaling.envs.game": "agent_scaling.envs.families",
    "agent_scaling.errors": "agent_scaling.runtime.errors",
    "agent_scaling.library": "agent_scaling",
    "agent_scaling.policy": "agent_scaling.policies.policy",
    "agent_scaling.shards": "agent_scaling.data.shards",
    "agent_scaling.shards.codec": "agent_scaling.data.shards.codec",
    "agent_scaling.shards.convert": "agent_scaling.data.conversion.shard",
    "agent_scaling.shards.layout": "agent_scaling.data.shards.layout",
    "agent_scaling.shards.reader": "agent_scaling.data.shards.reader",
    "agent_scaling.sizes": "agent_scaling.policies.sizes",
    "agent_scaling.sources": "agent_scaling.data.recordings",
    "agent_scaling.sources.base": "agent_scaling.data.recordings.base",
    "agent_scaling.vtrace": "agent_scaling.training.objectives.vtrace",
}
"""Modules that the pages of version 0.1 told programs to import → their places now."""


class OldModules(MetaPathFinder, Loader):
    """Imports the modules of :data:`MODULES` from their new places, with a DeprecationWarning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a renamed module; it is asked last, when no file has the name."""
        if fullname not in MODULES:
            return None
        packages = {name.rpartition(".")[0] for name in MODULES}
        return ModuleSpec(fullname, self, is_package=fullname in packages)

    def exec_module(self, module: ModuleType) -> None:
        """Give the old module the names of the new one."""
        new = MODULES[module.__name__]
        warnings.warn(
            f"{module.__name__} is {new} since version 0.2", DeprecationWarning, stacklevel=2
        )
        found = import_module(new)
        names = getattr(found, "__all__", None) or [n for n in vars(found) if n[:2] != "__"]
        vars(module).update({name: getattr(found, name) for name in names})


def keep_old_modules() -> None:
    """Have imports of the old modules still work in this process."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.append(OldModules())


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
