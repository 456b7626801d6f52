"""The console script without its start: each call is forked from a process that has imported what
the verbs need, on which a new Python spends five CPU-seconds before it does anything."""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
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
PROGRAM_NAME = "agent-scaling"
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
    "agent_scaling.policies.encoders.compact",
    "agent_scaling.policies.encoders.nethack",
    "agent_scaling.policies.cores.lstm",
    "agent_scaling.training.modules.bc",
    "callbacks.checkpoints",
    "callbacks.held_out",
    "callbacks.reference_players",
    "callbacks.rollouts",
    "callbacks.system",
    "callbacks.tracking",
    "data_modules.shards",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
    "IPython",  # MLflow asks it where it runs
    "alembic.command",
    "git",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.metrics.cpu_monitor",
    "mlflow.tracing.provider",
)


def import_all() -> None:
    """Import what the verbs need, and do once what each process does first, for all its forks.

    Collections of garbage would take a quarter of the time, and later write to what forks share.
    """
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    from hydra import compose

    from agent_scaling.config.compose import hydra
    from agent_scaling.tracking.new_store import newest_schema

    with hydra():  # it looks for its plugins, and its parser learns the grammar
        compose("train", ["experiment=nethack_bc", "data.shards=x", "milestones=[1e9]"])
    newest_schema()
    gc.freeze()
    gc.enable()


def start(folder: Path, owner: int) -> None:
    """Make ``folder/agent-scaling``, which does what the console script does while the process
    ``owner`` lives."""
    folder.mkdir()
    program, address = folder / PROGRAM_NAME, folder / "socket"
    program.write_text(PROGRAM.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    serving = [sys.executable, "-P", __file__, program, address, str(owner)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # small steps, shared cores
    server = subprocess.Popen(serving, start_new_session=True, env=one_thread)
    while not address.exists():
        assert server.poll() is None
        time.sleep(0.05)
    server.returncode = 0  # it outlives this process, which shall not warn of it


def serve(program: str, address: str, owner: str) -> None:
    """Fork for each call of ``program``; returns in the fork, when the verb has.

    With the process ``owner`` it ends, and all calls that have not.
    """
    end = os.pidfd_open(int(owner))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()  # who calls before all is imported waits
        import_all()
        importlib.import_module("agent_scaling.studies.run_cell").executable = lambda: program
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        while True:
            if end in select.select([server, end], [], [])[0]:
                os.killpg(0, signal.SIGKILL)
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
    importlib.import_module("agent_scaling.cli.main").main()


if __name__ == "__main__":
    serve(*sys.argv[1:])
