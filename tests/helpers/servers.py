"""MLflow's server, for tests that need one."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.helpers.forked import FOLDER, PYTHON
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

PROGRAM = """
import os, mlflow.cli, mlflow.server, uvicorn
def serve_here(words, extra_env, **_):
    os.environ.update(extra_env)
    uvicorn.main(words[words.index("uvicorn") + 1 :])
mlflow.server._exec_cmd = serve_here
mlflow.cli.cli()
"""
"""``mlflow``, whose server starts uvicorn in a second Python, which would import it all again."""


class Server:
    """``mlflow server`` on a sqlite store, in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.store = new_store(root / "mlflow.db")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = root / "server.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        python = Path(os.environ[FOLDER]) / PYTHON if FOLDER in os.environ else sys.executable
        options = ["--backend-store-uri", self.store, "--port", str(self.port), "--workers", "1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [python, "-c", PROGRAM, "server", "--host", "127.0.0.1", *options],
                env=os.environ | WITHOUT_JOBS,
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
            self.process.kill()
            self.process.wait()
            self.process = None
            while self.answers():  # a fork ends just after what stands for it
                time.sleep(0.01)
