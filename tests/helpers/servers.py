"""MLflow's server, for tests that need one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.helpers.stores import new_store


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives nobody who asks for any: those are
    above 32768."""
    draw = random.SystemRandom()  # a test may have seeded the usual one
    while True:
        port = draw.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Its queues for language models are eight processes, and what they leave in shared memory."""


class Server:
    """``mlflow server`` on a sqlite store, in a process group of its own."""

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.store = new_store(root / "mlflow.db")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = root / "server.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(sys.executable).with_name("mlflow")
        options = ["--backend-store-uri", self.store, "--port", str(self.port), "--workers", "1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program, "server", "--host", "127.0.0.1", *options],
                env=os.environ | WITHOUT_JOBS,
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
