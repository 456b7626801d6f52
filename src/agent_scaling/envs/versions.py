"""Versions of the programs that play: with another one, the same seed may be another game.

They stand in the manifest of shards, in checkpoints, and in tables of episodes and of milestones.
Files that say nothing of them are of unknown versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent_scaling.envs.families import FAMILIES

PACKAGES = {
    "nethack": ("nle",),
    "nle": ("nle",),
    "minihack": ("nle", "minihack"),
    "atari": ("ale-py",),
}
"""Family → the packages that play it."""
COLUMNS = {"versions": "learnt", "played_versions": "played"}
"""Columns of tables that hold versions → what was done with the games."""
UNKNOWN = "unknown versions"
BUILT = re.compile(rb"NetHack Version (\d+\.\d+\.\d+)")


def installed_versions(family: str) -> dict[str, str]:
    """Return the versions that play a family here; empty for an extension's game.

    Args:
        family: A family's name, or the import path of its class.
    """
    name = next((n for n, known in FAMILIES.items() if family in (n, known.path)), family)
    found = {}
    for package in PACKAGES.get(name, ()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"nethack": nethack_version(), **found} if "nle" in found else found


@cache
def nethack_version() -> str:
    """Return the version of NetHack that NLE has built in, such as 3.6.7."""
    from nle.nethack.nethack import DLPATH  # tables are read without NetHack

    found = BUILT.search(Path(DLPATH).read_bytes())
    return found[1].decode() if found else "unknown"


def versions_text(versions: Mapping[str, str]) -> str:
    """Return versions in one line: ``nethack 3.6.7, nle 1.3.0``; empty for none."""
    return ", ".join(f"{name} {versions[name]}" for name in sorted(versions))


def mixed(texts: Iterable[object]) -> str | None:
    """Return a line that counts the versions of rows; None where all have the same.

    Args:
        texts: What :func:`versions_text` gave for each row; anything but text is unknown.
    """
    counts: dict[str, int] = {}
    for text in texts:
        known = text if isinstance(text, str) and text else UNKNOWN
        counts[known] = counts.get(known, 0) + 1
    if len(counts) < 2:
        return None
    return "; ".join(f"{text} ({count})" for text, count in sorted(counts.items()))
