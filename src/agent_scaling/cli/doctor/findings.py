"""What a check is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent_scaling.runtime.secrets import mask

OK, WARNING, BROKEN = "ok", "warning", "broken"


@dataclass(frozen=True)
class Asked:
    """What the user wants checked beside the installation."""

    output: str = "outputs"
    """Folder that runs will write to."""
    tracking_uri: str = "sqlite:///mlflow.db"
    """The MLflow store."""
    shards: str | None = None
    """A folder or URL of shards."""


@dataclass(frozen=True)
class Finding:
    """A line of the table."""

    status: str
    """``ok``; ``warning``: it works, but not as well as it could; ``broken``."""
    text: str
    fix: str = ""
    """A command or a setting that mends it."""


Check = Callable[[Asked], Finding | None]
"""None: nobody asked for it."""


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(OK, mask(text))


def warning(text: str, fix: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(WARNING, mask(text), mask(fix))


def broken(text: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(BROKEN, mask(text), mask(fix))
