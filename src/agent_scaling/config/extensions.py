"""Packages that add parts to this one: found by their entry point, so installing one trusts it."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec

GROUP = "agent_scaling"
"""Of entry points: ``[project.entry-points.agent_scaling]``, ``name = "package"``."""


def extensions() -> tuple[str, ...]:
    """Import names of the installed packages that declare themselves."""
    return tuple(sorted({point.value for point in entry_points(group=GROUP)}))


def is_extension(path: str) -> bool:
    """Whether an import path (``package.module.Class``) lies in one of them."""
    return path.startswith(tuple(f"{package}." for package in extensions()))


def config_packages() -> list[str]:
    """``package.conf`` of those that have such a folder: configs by the same groups as ``conf``."""
    found = []
    for package in extensions():
        try:
            if find_spec(f"{package}.conf") is not None:
                found.append(f"{package}.conf")
        except ModuleNotFoundError:  # uninstalled by hand
            continue
    return found
