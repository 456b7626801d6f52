"""Command lines: the one that started this process, and those that a user may run next."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

PROGRAM = "agent-scaling"

BARE = re.compile(r"(?!(true|false|null|nan|inf|infinity)$)([a-z/]|\.{1,2}/)[\w./:-]*", re.A | re.I)
"""Values that Hydra reads as the same text without quotes."""


def typed_words() -> list[str] | None:
    """Return the words after ``agent-scaling``, or None in a process of another program."""
    return sys.argv[1:] if Path(sys.argv[0]).name == PROGRAM else None


def setting(key: str, value: object) -> str:
    """Return ``key=value`` for Hydra, which reads the text of ``value`` back, whatever it holds."""
    if value is None:
        return f"{key}=null"
    text = str(value)
    if BARE.fullmatch(text):
        return f"{key}={text}"
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else OmegaConf would look it up
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'{key}="{text}"'


def command(*words: str) -> str:
    """Return the line that runs ``agent-scaling`` with ``words`` when it is pasted into a shell."""
    return shlex.join([PROGRAM, *words])
