"""Prints lines to the terminal, from a run's first process alone."""

from __future__ import annotations

import os

from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.text import Text

from agent_scaling.runtime.secrets import mask

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables with the process's rank, of torchrun, Lightning's launcher, SLURM and LSF, in
Lightning's order; Lightning itself takes seconds to import."""


def is_first() -> bool:
    """True in the run's first process, also before the ranks are connected."""
    rank = getattr(rank_zero_only, "rank", None)  # set by an imported Lightning
    if rank is None:
        rank = next((os.environ[name] for name in RANKS if name in os.environ), 0)
    return int(rank) == 0


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console that prints texts as they are, those in tables and titles among them.

    Names of folders, studies and games hold brackets and colons, which rich takes for styles and
    for emojis. A styled text is a :class:`rich.text.Text`.
    """
    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def say(text: str, bold: int = 0) -> None:
    """Print one unbroken line, so that a path can be copied; its first ``bold`` letters are bold.
    Only the first rank prints."""
    if is_first():
        line = Text(mask(text))
        line.stylize("bold", 0, bold)
        plain_console(soft_wrap=True).print(line)
