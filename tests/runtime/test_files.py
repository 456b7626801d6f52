"""Files are whole or absent, and what killed writers have left goes away."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from agent_scaling.runtime.files import PARTIAL, SETTLED, part_of, write_file


def test_parts_of_killed_writers_are_removed_by_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "fit [1].json"
    number = next(n for n in range(2**22 - 1, 0, -1) if not Path("/proc", str(n)).exists())
    left = tmp_path / f".{path.name}.{platform.node()}-{number}{PARTIAL}"
    others = [
        part_of(tmp_path / "other.json"),
        tmp_path / f".{path.name}.{platform.node()}-{os.getppid()}{PARTIAL}",
        tmp_path / f".{path.name}.elsewhere-{number}{PARTIAL}",
    ]
    for part in (left, *others):
        part.touch()
    write_file(path, "{}")
    assert left.exists()  # another container of this name may be writing it
    for part in (left, *others):
        os.utime(part, (0, part.stat().st_mtime - 2 * SETTLED))
    write_file(path, "{}")
    assert {*tmp_path.iterdir()} == {path, *others}
