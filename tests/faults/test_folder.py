"""Two runs on one output folder."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.locks import LOCK_FILE, output_locked
from tests.helpers.runs import train


def test_a_second_run_is_refused_while_the_first_is_there(
    tiny_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    busy = pytest.raises(InputError, match="another run is writing there")
    with output_locked(output, "run", file=LOCK_FILE), busy:
        train(tiny_shards, output, "flops_budget=1e9")
    assert [path.name for path in output.iterdir()] == [".lock"]
    with output_locked(output, "run", file=LOCK_FILE):  # a run that has ended holds nothing
        pass


def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    line = r"run: cannot be locked \(No locks available\)"
    own = output_locked(tmp_path / "run", "run", file=LOCK_FILE)
    with pytest.raises(InputError, match=line), own:
        pass


def test_what_is_busy_in_a_run_is_not_taken_for_another_run(tmp_path: Path) -> None:
    at_the_limit = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    with pytest.raises(BlockingIOError), output_locked(tmp_path / "run", "run", file=LOCK_FILE):
        raise at_the_limit  # as fork() does when there are too many processes
