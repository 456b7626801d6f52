"""One line to whoever waits for a run, from its first process alone."""

from __future__ import annotations

import os

from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.text import Text

from agent_scaling.runtime.secrets import mask

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Where torchrun, Lightning's launcher, SLURM and LSF say which process it is, as Lightning asks
them; Lightning itself takes seconds to import."""


def is_first() -> bool:
    """Whether this is the run's first process, also before the ranks have met."""
    rank = getattr(rank_zero_only, "rank", None)  # where Lightning keeps it once it is imported
    if rank is None:
        rank = next((os.environ[name] for name in RANKS if name in os.environ), 0)
    return int(rank) == 0


def say(text: str, bold: int = 0) -> None:
    """One line, however long: a path must stay whole to be copied; its first ``bold`` letters are.
    Of several ranks the first speaks."""
    if is_first():
        line = Text(mask(text))
        line.stylize("bold", 0, bold)
        Console(soft_wrap=True, highlight=False).print(line)
