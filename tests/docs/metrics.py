"""The tables of docs/metrics.md and docs/impala.md, as patterns of the names that they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.conftest import ROOT


def documented(section: str, page: str = "metrics.md", computed: str = "") -> list[str]:
    """Regular expressions of the metrics in a section's table; ``<word>`` stands for any word.

    ``computed``: only rows that say that it is computed there.
    """
    text = (ROOT / "docs" / page).read_text()
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    rows = [line.split("|") for line in body.splitlines() if line.startswith("| `")]
    names = [name for row in rows if computed in row[4] for name in re.findall("`(.+?)`", row[1])]
    assert names, (page, section, computed)
    return [re.sub("<[a-z]+>", r"[\\w.]+", name) for name in names]


def unknown(names: Iterable[str], patterns: list[str]) -> list[str]:
    """The names that no pattern is of."""
    return [name for name in names if not any(re.fullmatch(p, name) for p in patterns)]


def unlogged(patterns: list[str], names: Iterable[str]) -> list[str]:
    """The patterns that no name is of."""
    held = list(names)
    return [p for p in patterns if not any(re.fullmatch(p, name) for name in held)]
