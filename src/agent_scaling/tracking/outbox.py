"""What a tracking store would not take, kept in a file until it does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_scaling.runtime.errors import InputError

RETRY_SECONDS = 60.0
"""Between attempts: each may take some seconds of training."""

Entry = dict[str, Any]
"""JSON: what to send."""


class Outbox:
    """Entries in the order of their coming, one JSON object per line.

    Args:
        path: The file; there is one only while something waits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._again_at = 0.0
        self._late = path.exists()

    @property
    def due(self) -> bool:
        """Whether the store may be asked: it did not fail within the last minute."""
        return time.monotonic() >= self._again_at

    def postpone(self) -> bool:
        """Note that the store has failed; whether that is news."""
        first, self._again_at = self._again_at == 0.0, time.monotonic() + RETRY_SECONDS
        self._late = True
        return first

    def waiting(self) -> Iterator[Entry]:
        """What was kept; a line that a kill has cut is of steps that are made again."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def keep(self, entry: Entry) -> None:
        """Append; raises :class:`InputError` where the disk is full."""
        try:
            with self.path.open("a") as file:
                file.write(f"\n{json.dumps(entry)}")  # ends what a kill has cut
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}), nor does MLflow take the "
                "metrics: free space, then continue with ckpt_path=last"
            ) from error

    def clear(self) -> bool:
        """All was sent; whether anything had waited longer than it took to send it."""
        late, self._late = self._late, False
        self.path.unlink(missing_ok=True)
        self._again_at = 0.0
        return late
