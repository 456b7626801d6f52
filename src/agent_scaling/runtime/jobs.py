"""Divides work over jobs, such as those of a SLURM array."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent_scaling.runtime.errors import InputError

T = TypeVar("T")


FOLDER = "parts"


SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True)
class Part:
    """Part ``number`` (from 1) of ``count``."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the part's share of the items: every ``count``-th."""
        return items[self.number - 1 :: self.count]

    def table(self, folder: Path) -> Path:
        """Return the path of the part's episodes; its settings lie beside them."""
        return folder / FOLDER / f"{self.number}-of-{self.count}.parquet"


def find_part(
    text: str | None, environment: Mapping[str, str] = os.environ, key: str = "shard"
) -> Part | None:
    """Return the part that ``3/8`` names, or for ``slurm`` this job of a SLURM array.

    Args:
        text: The user's value.
        environment: The environment variables, with SLURM's.
        key: The key of the user's value, for messages.

    Raises:
        InputError: The value is neither, or SLURM's variables are absent or leave gaps.
    """
    if text is None:
        return None
    if text == "slurm":
        try:
            task, first, count = (int(environment[name]) for name in SLURM)
        except (KeyError, ValueError):
            raise InputError(f"{key}=slurm: no {', '.join(SLURM)}; or {key}=3/8") from None
        if task - first >= count:
            raise InputError(f"{key}=slurm: the array's numbers have gaps; use --array=1-8 or so")
        return Part(task - first + 1, count)
    number, _, count_text = str(text).partition("/")
    if not (number.isdecimal() and count_text.isdecimal()):
        raise InputError(f"{key}={text}: write e.g. 3/8 for the third of eight parts, or slurm")
    part = Part(int(number), int(count_text))
    if not 1 <= part.number <= part.count:
        raise InputError(f"{key}={text}: parts are numbered from 1 to {part.count}")
    return part
