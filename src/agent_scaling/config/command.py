"""The command line that this process was started with."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = "agent-scaling"


def typed_words() -> list[str] | None:
    """Return the words after ``agent-scaling``, or None in a process of another program."""
    return sys.argv[1:] if Path(sys.argv[0]).name == PROGRAM else None
