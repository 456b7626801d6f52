"""Keeps entries in a file until the tracking store takes them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_scaling.runtime.errors import InputError

RETRY_SECONDS = 60.0
"""Seconds between attempts, each of which may block training for some seconds."""

Entry = dict[str, Any]
"""One request to the store, as JSON."""


class Outbox:
    """Entries in the order of their arrival, one JSON object per line.

    Args:
        path: The file; it exists only while entries wait.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._again_at = 0.0
        self._late = path.exists()

    @property
    def due(self) -> bool:
        """True unless the store has failed within the last minute."""
        return time.monotonic() >= self._again_at

    def postpone(self) -> bool:
        """Note that the store has failed; return True if it had not been failing before."""
        first, self._again_at = self._again_at == 0.0, time.monotonic() + RETRY_SECONDS
        self._late = True
        return first

    def waiting(self) -> Iterator[Entry]:
        """Yield the entries; a line that a kill has cut belongs to steps that training repeats."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def keep(self, entry: Entry) -> None:
        """Append an entry; raise :class:`InputError` where the disk is full."""
        try:
            with self.path.open("a") as file:
                file.write(f"\n{json.dumps(entry)}")  # ends a line that a kill has cut
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}), nor does MLflow take the "
                "metrics: free space, then continue with ckpt_path=last"
            ) from error

    def clear(self) -> bool:
        """Remove the sent entries; return True if any had waited for the store."""
        late, self._late = self._late, False
        self.path.unlink(missing_ok=True)
        self._again_at = 0.0
        return late
