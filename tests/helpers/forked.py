"""The console script without its start: each call is forked from a process that has imported what
the verbs need, on which a new Python spends five CPU-seconds before it does anything."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
call = {{"argv": sys.argv, "folder": os.getcwd(), "environ": dict(os.environ)}}
socket.send_fds(server, [json.dumps(call).encode()], [0, 1, 2])
sys.exit(int(server.recv(16) or b"1"))
"""
"""Stands in the script's place: hands over its words, folder and terminal, and waits."""
IMPORTED = (
    "agent_scaling.cli.main",
    "agent_scaling.config.check",
    "agent_scaling.cli.doctor",
    "agent_scaling.training.labelling.label",
    "agent_scaling.playing.rollouts.rollout",
    "agent_scaling.scaling.fitting.analysis",
    "agent_scaling.data.conversion.shard",
    "agent_scaling.studies.study",
    "agent_scaling.training.train",
    "agent_scaling.policies.encoders.nethack",
    "agent_scaling.policies.cores.lstm",
    "agent_scaling.training.modules.bc",
    "callbacks.checkpoints",
    "callbacks.rollouts",
    "callbacks.tracking",
    "data_modules.shards",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
    "mlflow.store.tracking.sqlalchemy_store",
)


class Forked:
    """``program`` does what ``agent-scaling`` does, until :meth:`close`."""

    def __init__(self, folder: Path) -> None:
        self.program, address = folder / "agent-scaling", folder / "socket"
        self.program.write_text(PROGRAM.format(python=sys.executable, address=str(address)))
        self.program.chmod(0o755)
        serving = [sys.executable, "-P", __file__, self.program, address]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # small steps, shared cores
        self.server = subprocess.Popen(serving, start_new_session=True, env=one_thread)
        while not address.exists():
            assert self.server.poll() is None
            time.sleep(0.05)

    def close(self) -> None:
        """End it, and calls that have not."""
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()


def serve(program: str, address: str) -> None:
    """Fork for each call of ``program``; returns in the fork, when the verb has."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()  # who calls before all is imported waits
        modules = {name: importlib.import_module(name) for name in IMPORTED}
        importlib.import_module("agent_scaling.studies.run_cell").executable = lambda: program
        gc.freeze()  # a collection would write to, and so copy, what forks share
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        while True:
            caller, _ = server.accept()
            if os.fork() == 0:
                break
            caller.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    words, terminal, _, _ = socket.recv_fds(caller, 1 << 20, 3)
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    caller.close()
    call = json.loads(words)
    for number, opened in enumerate(terminal):
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environ"])
    sys.argv = call["argv"]
    modules["agent_scaling.cli.main"].main()


if __name__ == "__main__":
    serve(*sys.argv[1:])
