"""Where a run stands while it trains: a small file in its folder, which a sweep shows."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent_scaling.runtime.files import part_of
from agent_scaling.tracking.milestones import BRANCHES

FILE = "standing.json"
"""In a run's output folder, and in that of each of its branches."""
EVERY = 2.0
"""Seconds between two writings while the run trains."""


@dataclass(frozen=True)
class Standing:
    """A run, or one of its branches, at one moment."""

    frames: int
    """Frames that it has trained on, all ranks."""
    frames_per_second: float
    """Speed of the last half minute of training; 0: not known yet."""
    loss: float | None
    """Training loss, the mean since the file was written before."""
    doing: str = "train"
    """``train``, or ``test`` while it is evaluated and plays."""
    written: float = field(default_factory=time.time)
    """Seconds since the epoch."""


def write_standing(output: Path, standing: Standing) -> None:
    """Write it whole; a folder that cannot be written is no reason to stop a run."""
    part = part_of(output / FILE)
    with contextlib.suppress(OSError):
        part.write_text(json.dumps(asdict(standing)))
        part.replace(output / FILE)


def standings(output: Path) -> Iterator[tuple[str, Standing]]:
    """Yield those of a run (under the name "") and of its branches, as far as there are any."""
    for folder in (output, *(output / BRANCHES).glob("*")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found = Standing(**json.loads((folder / FILE).read_text()))
            yield "" if folder == output else folder.name, found
