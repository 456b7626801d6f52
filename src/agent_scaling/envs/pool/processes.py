"""Worker processes that end with their pool and leave no files behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_scaling.envs.pool.worker import LEAVE, NOTHING, Assignment

# Workers run a fresh interpreter and are not forked, because the pool's process has threads
# (torch's). They do not import its ``__main__``.
BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from agent_scaling.envs.pool.worker import main
main()
"""
# The janitor waits until the pool's end of a pipe closes, however the pool ended. It then ends the
# workers (its process group) and removes the folder. The kernel sends HUP to a group that has lost
# its parent while a member is stopped. An exiting worker may still write a file to the folder, so
# the removal is tried more than once.
JANITOR = """
trap "" TERM HUP; cat >/dev/null; kill -TERM 0; kill -CONT 0
for _ in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$0" 2>/dev/null && break; sleep 0.2; done
kill -KILL 0
"""
ORDERS = [bytes([number]) for number in range(256)]
CLOSING_S = 5.0  # seconds that a worker is given to exit by itself


class GameError(RuntimeError):
    """The game's own Python code failed in a worker; the message is its traceback."""


class WorkerLostError(Exception):
    """A worker died or did not answer.

    Attributes:
        guilty: True where the worker crashed or hung by itself, so that the game that it was moving
            is suspect; False where it was killed or stopped from outside.
    """

    def __init__(self, reason: str, guilty: bool) -> None:
        super().__init__(reason)
        self.guilty = guilty


class Nursery:
    """A temporary folder and a process group for workers, which a janitor process cleans up."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agent-scaling-"))
        self._janitor = subprocess.Popen(
            ["/bin/sh", "-c", JANITOR, str(self.folder)], stdin=subprocess.PIPE, process_group=0
        )

    def start(self, assignment: Assignment) -> Worker:
        """Start a new worker process."""
        return Worker(assignment, self.folder, self._janitor.pid)

    def close(self) -> None:
        """End the janitor and the remaining workers, and remove the folder.

        The janitor is not left to see its pipe close, which a fork of this process would hold open.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._janitor.pid, signal.SIGKILL)
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        self._janitor.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Worker:
    """The pool's handle on one worker process."""

    def __init__(self, assignment: Assignment, folder: Path, process_group: int) -> None:
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        told = replace(assignment, orders=orders, reports=reports)
        environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOT, json.dumps(sys.path), told.to_json()],
            pass_fds=(orders, reports, assignment.memory),
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=process_group,
        )
        os.close(orders)
        os.close(reports)
        self._closed = False
        self._poll = select.poll()
        self._poll.register(self._reports, select.POLLIN)

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def order(self, group: int) -> None:
        """Order the games of ``group`` to move; a dead worker is detected at the next read."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, ORDERS[group])

    def read(self, patience: float) -> Any:
        """Read the worker's next report; None for an empty one.

        Raises:
            WorkerLostError: The worker is dead, or was silent for ``patience`` seconds.
            GameError: The game's own code failed.
        """
        head = self._read_piece(len(NOTHING), patience)
        if head == NOTHING:
            return None
        deadline = time.monotonic() + patience
        head += self._read_bytes(len(NOTHING) - len(head), deadline)
        message = json.loads(self._read_bytes(int.from_bytes(head, "little"), deadline))
        if isinstance(message, dict):
            raise GameError(f"a game failed in its worker process:\n{message['error']}")
        return message

    def close(self, kill: bool = False) -> None:
        """End the process, by an order and then by force; a repeated call is harmless."""
        if self._closed:
            return
        self._closed = True
        if kill:
            self._process.kill()
        else:
            self.order(LEAVE)
        os.close(self._orders)
        os.close(self._reports)  # the worker may be blocked on writing a report
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_bytes(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            data += self._read_piece(size - len(data), max(0.0, deadline - time.monotonic()))
        return data

    def _read_piece(self, size: int, patience: float) -> bytes:
        if not self._poll.poll(patience * 1000):
            raise WorkerLostError("it does not answer", guilty=not self._is_stopped())
        piece = os.read(self._reports, size)
        if not piece:
            code = self._process.wait()
            raise WorkerLostError(f"it exited with {code}", guilty=code not in (-9, -15))
        return piece

    def _is_stopped(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in ("T", "t")
