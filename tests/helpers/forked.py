"""Programs without their start: each call is forked from a process that has imported what the verbs
need, on which a new Python spends five CPU-seconds before it does anything."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import marshal
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import weakref
from collections.abc import Iterator
from multiprocessing import popen_spawn_posix, spawn
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

PROGRAM = """#!{python} -IS
import _signal as signal, array, marshal, os, resource, sys, _socket as socket
def inherited(number):
    try:
        return os.get_inheritable(number)
    except OSError:  # the listing's own
        return False
opened = [number for number in map(int, os.listdir("/proc/self/fd")) if inherited(number)]
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
names = "SIGCONT SIGHUP SIGINT SIGTERM SIGUSR1 SIGUSR2"
signals = {{getattr(signal, name) for name in names.split()}}
ignored = [number for number in signals if signal.getsignal(number) == signal.SIG_IGN]
call = {{
    "argv": sys.argv, "folder": os.getcwd(), "environ": dict(os.environ), "opened": opened,
    "pid": os.getpid(), "ignored": ignored, "largest": resource.getrlimit(resource.RLIMIT_FSIZE),
}}
files = socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", opened)
server.sendmsg([marshal.dumps(call)], [files])
for number in signals.difference(ignored):
    signal.signal(number, lambda number, _: server.send(b"%d" % number))
code = int(server.recv(16) or b"1")
if -code in signals:
    signal.signal(-code, signal.SIG_DFL)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""Stands in a program's place: hands over its words, folder, open files and their largest size, and
waits. The program gets the signals that this gets, is killed with this, and this ends as the
program does. It imports what is of C alone, in half the time that ``json`` and ``socket`` take."""
PROGRAM_NAME, PYTHON = "agent-scaling", "python"
"""The console script, and an interpreter that knows ``-c`` and ``-m`` alone."""
FOLDER = "AGENT_SCALING_FORKED"
"""Where the programs are that all workers of pytest-xdist share."""
IMPORTED = (
    "agent_scaling.cli.main",
    "agent_scaling.config.check",
    "agent_scaling.cli.doctor",
    "agent_scaling.training.labelling.label",
    "agent_scaling.playing.demonstrators.games.atari",
    "agent_scaling.playing.demonstrators.games.nethack",
    "agent_scaling.playing.rollouts.rollout",
    "agent_scaling.scaling.fitting.analysis",
    "agent_scaling.data.conversion.shard",
    "agent_scaling.envs.atari",
    "agent_scaling.envs.nethack",
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
    "joblib.externals.loky.backend.fork_exec",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.metrics.cpu_monitor",
    "mlflow.tracing.provider",
    "submitit.local.local",
)


YOUNG = 20_000
"""New objects between collections of garbage; with Python's own 700, the tests take 6 % longer."""


def import_all() -> None:
    """Import what the verbs need, and do once what each process does first, for all its forks.

    Collections of garbage would take a quarter of the time, and later write to what forks share.
    """
    gc.set_threshold(YOUNG)
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    from hydra import compose
    from mlflow.store.db import utils

    from agent_scaling.cli.main import VERBS
    from agent_scaling.config.compose import hydra
    from agent_scaling.tracking.new_store import newest_schema
    from tests.helpers.composing import compose_once

    compose_once()
    with hydra():  # it looks for its plugins, and its parser learns the grammar
        for verb in VERBS:
            compose(verb)
        for experiment in ("nethack_bc", "nethack_bc_paper"):
            compose("train", [f"experiment={experiment}", "data.shards=x", "milestones=[1e9]"])
    # MLflow reads its 70 migrations at each store that is opened.
    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
    utils._get_latest_schema_revision()
    newest_schema()
    for kept in weakref.finalize._registry:  # type: ignore[attr-defined]
        kept.atexit = False  # torch's operators need not be taken down one by one as a fork ends
    gc.freeze()
    gc.enable()


def start(folder: Path, owner: int) -> None:
    """Make ``folder/agent-scaling``, which does what the console script does while the process
    ``owner`` lives, and ``folder/python``."""
    folder.mkdir()
    address = folder / "socket"
    for name in (PROGRAM_NAME, PYTHON):
        (folder / name).write_text(PROGRAM.format(python=sys.executable, address=str(address)))
        (folder / name).chmod(0o755)
    serving = [sys.executable, __file__, folder / PROGRAM_NAME, address, str(owner)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # small steps, shared cores
    server = subprocess.Popen(serving, start_new_session=True, env=one_thread)
    while not address.exists():
        assert server.poll() is None
        time.sleep(0.05)
    server.returncode = 0  # it outlives this process, which shall not warn of it


def serve(program: str, address: str, owner: str) -> None:
    """Fork for each call of a program, which ends in its fork as it would in a process of its own.

    With the process ``owner`` it ends, and all calls that have not.
    """
    end = os.pidfd_open(int(owner))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()  # who calls before all is imported waits
        import_all()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        while True:
            if end in select.select([server, end], [], [])[0]:
                os.killpg(0, signal.SIGKILL)
            caller, _ = server.accept()
            if os.fork() == 0:
                break
            caller.close()
    os.close(end)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    words, received, _, _ = socket.recv_fds(caller, 1 << 20, 250)
    call = marshal.loads(words)
    if child := os.fork():
        (Path(program).parent / str(call["pid"])).write_text(str(child))
        code = watch(child, caller)
        with contextlib.suppress(BrokenPipeError):  # the caller was killed
            caller.sendall(str(code).encode())
        os._exit(0)
    caller.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in call["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    open_as(received, call["opened"])
    # The server's own may be of another kind: of a file, in which to seek, and not of a pipe.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, closefd=False)  # noqa: SIM115
    os.chdir(call["folder"])
    resource.setrlimit(resource.RLIMIT_FSIZE, tuple(call["largest"]))
    os.environ.clear()
    os.environ.update(call["environ"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    tempfile.tempdir = None  # the variable TMPDIR may be the caller's own
    begin_as_rank()
    sys.argv = call["argv"]
    importlib.import_module("agent_scaling.studies.run_cell").executable = lambda: program
    python = str(Path(program).with_name(PYTHON))
    fork_joblibs(python)
    fork_submitits(python)
    try:
        with forked_workers(python):
            if Path(sys.argv[0]).name == PYTHON:
                interpret(sys.argv)
            else:
                fork_games(python)
                importlib.import_module("agent_scaling.cli.main").main()
    except SystemExit as error:
        leave(error.code)
    leave(0)


def fork_joblibs(python: str) -> None:
    """Have joblib start its workers by ``python``."""
    found = importlib.import_module("joblib.externals.loky.backend.fork_exec")
    usual = found.fork_exec
    found.fork_exec = lambda words, *more, **named: usual([python, *words[1:]], *more, **named)


def fork_submitits(python: str) -> None:
    """Have submitit's local launcher start its jobs by ``python``."""
    found = importlib.import_module("submitit.local.local").LocalExecutor
    usual = found.__init__
    found.__init__ = lambda self, folder, **named: usual(self, folder, python=python, **named)


@contextlib.contextmanager
def forked_workers(python: str) -> Iterator[None]:
    """Have ``python`` start the workers of environment pools, and those of multiprocessing."""
    executable = os.fsencode(python)
    begins = types.SimpleNamespace(**vars(spawn) | {"get_executable": lambda: executable})
    pools: Any = importlib.import_module("agent_scaling.envs.pool.processes")
    found = types.SimpleNamespace(executable=python, path=sys.path)
    with patch.object(popen_spawn_posix, "spawn", begins), patch.object(pools, "sys", found):
        yield


def fork_games(python: str) -> None:
    """Have the doctor start the games that it checks by ``python``."""
    found: Any = importlib.import_module("agent_scaling.cli.doctor.games")
    found.sys = types.SimpleNamespace(executable=python)


def watch(child: int, caller: socket.socket) -> int:
    """Pass the caller's signals on to ``child`` until that ends, kill it if the caller is killed,
    and return its exit status."""
    end = os.pidfd_open(child)
    with contextlib.suppress(ConnectionResetError):
        while end not in select.select([end, caller], [], [])[0]:
            number = caller.recv(16)
            signal.pidfd_send_signal(end, int(number or signal.SIGKILL))
            if not number:
                break
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def begin_as_rank() -> None:
    """Have Lightning read this process's rank: it did so as it was imported, before the fork."""
    found = importlib.import_module("lightning.fabric.utilities.rank_zero")
    found.rank_zero_only.rank = found._get_rank() or 0


def started(program: Path, process: int) -> int:
    """Return the process that does the work of ``program``, given the one that stands for it."""
    file = program.with_name(str(process))
    while not (file.exists() and file.read_text()):
        time.sleep(0.02)
    return int(file.read_text())


def leave(code: object) -> NoReturn:
    """End as the interpreter does, but free nothing: all that was imported would first be copied
    from the server, in two thirds of a CPU-second."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit((code or 0) & 0xFF)


def open_as(received: list[int], numbers: list[int]) -> None:
    """Give open files the numbers that they had with the caller."""
    above = 1 + max([*received, *numbers])
    copies = [fcntl.fcntl(number, fcntl.F_DUPFD, above) for number in received]
    for number in received:
        os.close(number)
    for copy, number in zip(copies, numbers, strict=True):
        os.dup2(copy, number)
        os.close(copy)


def interpret(words: list[str]) -> None:
    """Do what ``python -c CODE`` or ``-m MODULE`` does, in a ``__main__`` of its own."""
    begin = next(place for place, word in enumerate(words) if word in ("-c", "-m"))
    sys.argv = words[begin : begin + 1] + words[begin + 2 :]
    sys.path.insert(0, "")
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (the server's own may be closed)
    if words[begin] == "-m":
        runpy.run_module(words[begin + 1], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(words[begin + 1], main.__dict__)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
    importlib.import_module("tests.helpers.composing")
    del sys.path[0]  # programs find no tests beside what they import
    serve(*sys.argv[1:])
