"""A SLURM cluster of one machine, from a distribution's packages, with its own key and ports."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agent_scaling.runtime.processes import die_with_parent
from tests.helpers.forked import started
from tests.helpers.servers import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
PATIENCE = 300  # seconds
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
FirstJobId={first}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4
PartitionName=low Nodes=localhost Default=YES PriorityTier=1 GraceTime=120
PartitionName=high Nodes=localhost PriorityTier=2 PreemptMode=OFF
"""
"""Four CPUs whatever the machine has. A job that was put back waits for ``cred_expire`` (120 s by
default). Ranks meet at a port that Lightning makes from the job's number: clusters that share a
machine begin with different ones."""


def find(name: str) -> str | None:
    """A daemon's path; ``sbin`` is not on every user's PATH."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


def wait_for(condition: Callable[[], object], interval: float = 0.02) -> None:
    """Return when the condition holds, which is looked at each ``interval`` seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(interval)


@dataclass(frozen=True)
class Cluster:
    """What a user of the cluster has: its client programs."""

    environment: dict[str, str]
    program: Path
    """What its jobs start as ``agent-scaling``."""

    def ask(self, *words: str, cwd: Path | None = None) -> str:
        """What a client program prints."""
        return subprocess.run(
            words, env=self.environment, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def submit(self, *words: str | Path, cwd: Path) -> str:
        """The number of the job that ``sbatch`` makes of a script and its arguments."""
        return self.ask("sbatch", "--parsable", *map(str, words), cwd=cwd)

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job; of an array, of its first one."""
        shown = self.ask("scontrol", "show", "job", "--oneliner", number).splitlines()[0]
        return dict(word.partition("=")[::2] for word in shown.split())

    def wait(self, number: str, *states: str) -> None:
        """Return when a job is in one of the states."""
        wait_for(lambda: self.job(number)["JobState"] in states, 0.5)

    def ranks(self, number: str, count: int) -> list[psutil.Process]:
        """The processes of a job's ``count`` ranks, as soon as they are there."""
        found: dict[int, psutil.Process] = {}

        def look() -> bool:
            for process in psutil.process_iter():
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if str(self.program) in process.cmdline():
                        environment = process.environ()
                        if environment.get("SLURM_JOB_ID") == number:
                            rank = int(environment["SLURM_PROCID"])
                            found[rank] = psutil.Process(started(self.program, process.pid))
            return len(found) == count

        wait_for(look, 0.5)
        return [found[rank] for rank in range(count)]


@contextmanager
def cluster(folder: Path, program: Path) -> Iterator[Cluster]:
    """Start munged, slurmctld and slurmd with all their files in ``folder``; end them and all
    jobs."""
    config, key, munge = folder / "slurm.conf", folder / "munge.key", folder / "munge.socket"
    host, user, first = socket.gethostname(), getpass.getuser(), 1000 + os.getpid() % 8000
    text = CONFIG.format(
        folder=folder, host=host, user=user, ports=(free_port(), free_port()), first=first
    )
    config.write_text(text)
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    files = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    path = f"{program.parent}:{os.environ['PATH']}"
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": path}
    with ExitStack() as stack:

        def start(*words: str) -> None:
            stack.enter_context(daemon(words, environment, folder))

        start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}", *files)
        wait_for(munge.exists)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        made = Cluster(environment, program)
        wait_for(lambda: "idle" in made.ask("sinfo", "--noheader", "--format=%T"), 0.2)
        try:
            yield made
        finally:
            made.ask("scancel", "--user", user)
            wait_for(lambda: not made.ask("squeue", "--noheader"), 0.2)


@contextmanager
def daemon(words: tuple[str, ...], environment: dict[str, str], folder: Path) -> Iterator[None]:
    """A daemon, until the end of the context; what it says is beside its other files."""
    command = [find(words[0]) or words[0], *words[1:]]
    with (folder / f"{words[0]}.out").open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, preexec_fn=die_with_parent
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
