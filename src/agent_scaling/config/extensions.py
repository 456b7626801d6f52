"""Packages that add parts to this one, found by entry point: installing one trusts it."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec

GROUP = "agent_scaling"
"""Group of entry points: ``[project.entry-points.agent_scaling]``, ``name = "package"``."""


def extensions() -> tuple[str, ...]:
    """Return the import names of the installed extensions."""
    return tuple(sorted({point.value for point in entry_points(group=GROUP)}))


def is_extension(path: str) -> bool:
    """True where an import path (``package.module.Class``) lies in an extension."""
    return path.startswith(tuple(f"{package}." for package in extensions()))


def config_packages() -> list[str]:
    """Return ``package.conf`` of each extension with that folder; its groups are ``conf``'s."""
    found = []
    for package in extensions():
        try:
            if find_spec(f"{package}.conf") is not None:
                found.append(f"{package}.conf")
        except ModuleNotFoundError:  # somebody has removed the package's files by hand
            continue
    return found
