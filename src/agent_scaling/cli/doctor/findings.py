"""The input of a check, and its finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent_scaling.runtime.secrets import mask

OK, WARNING, BROKEN = "ok", "warning", "broken"


@dataclass(frozen=True)
class Asked:
    """The folders and stores to check beside the installation."""

    output: str = "outputs"
    """Folder that runs will write to."""
    tracking_uri: str = "sqlite:///mlflow.db"
    """URI of the MLflow store."""
    shards: str | None = None
    """A folder or URL of shards."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    status: str
    """``ok``, ``warning`` (it works, but not as well as it could) or ``broken``."""
    text: str
    fix: str = ""
    """A command or a setting that mends the fault."""


Check = Callable[[Asked], Finding | None]
"""A check; it returns None where it was not asked for."""


def ok(text: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(OK, mask(text))


def warning(text: str, fix: str) -> Finding:
    """Return the finding of a part that works, but not as well as it could."""
    return Finding(WARNING, mask(text), mask(fix))


def broken(text: str, fix: str) -> Finding:
    """Return the finding of a part that does not work."""
    return Finding(BROKEN, mask(text), mask(fix))
