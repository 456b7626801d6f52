"""Command lines: the one that started this process, and those that a user may run next."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = "agent-scaling"

BARE = re.compile(r"(?!(true|false|null|nan|inf|infinity)$)([a-z/]|\.{1,2}/)[\w./:-]*", re.A | re.I)
"""Values that Hydra reads as the same text without quotes."""

ESCAPED = re.compile(r"([\\()\[\]{}:=, \t])")
"""Letters that Hydra reads in a mapping's key behind a backslash; it takes no quotes there."""

UNPRINTED = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]")
"""Control characters, and bytes that are not UTF-8, as Python has them in paths."""


def typed_words() -> list[str] | None:
    """Return the words after ``agent-scaling``, or None in a process of another program."""
    return sys.argv[1:] if Path(sys.argv[0]).name == PROGRAM else None


def setting(key: str, value: object) -> str:
    """Return ``key=value`` for Hydra, which reads the text of ``value`` back, whatever it holds.

    Items of lists and mappings are texts, numbers, truth values or None.
    """
    return f"{key}={written(value)}"


def written(value: object) -> str:
    """Return a value as it stands behind a key."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(item, value))}]"
    if isinstance(value, Mapping):
        names = (ESCAPED.sub(r"\\\1", str(name)) for name in value)
        pairs = (f"{name}:{item(part)}" for name, part in zip(names, value.values(), strict=True))
        return "{" + ",".join(pairs) + "}"
    if value is None:
        return "null"
    text = str(value)
    if BARE.fullmatch(text):
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else OmegaConf would look it up
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'"{text}"'


def item(value: object) -> str:
    """Return a value that stays a number or a truth value."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else written(value)


def config_dir(folder: Path) -> tuple[str, str]:
    """Return the words that have Hydra look for configs in a folder, also in one named ``-x``."""
    name = str(folder)
    return "--config-dir", f"./{name}" if name.startswith("-") else name


def command(*words: str) -> str:
    """Return the line that runs ``agent-scaling`` with ``words`` when it is pasted into a shell."""
    return " ".join([PROGRAM, *map(quoted, words)])


def quoted(word: str) -> str:
    """Return a word as it stands in a shell; bytes that no terminal prints are escaped.

    Those are control characters, tabs and line ends among them, and bytes that are not UTF-8.
    """
    if not UNPRINTED.search(word):
        return shlex.quote(word)
    escaped = re.sub(r"([\\'])", r"\\\1", word)
    return "$'" + UNPRINTED.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", escaped) + "'"
