"""One run of a plan: reads its progress from its folder, and trains it in its own process."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.locks import is_held
from agent_scaling.runtime.processes import die_with_parent
from agent_scaling.studies.plan_file import Run
from agent_scaling.tracking.milestones import is_at, is_saved, milestones

State = Literal["finished", "running", "failed", "stopped", "to do"]
STOP = "STOP"
"""While a plan's folder holds this file, its runs save a checkpoint and end."""
PREEMPTED = 143
POLL = 0.5
"""Seconds between two looks at a process and at :data:`STOP`."""
ERROR = re.compile(r"error:|[\w.]*(Error|Exception|Killed)\b[:(]")
ERROR_LENGTH = 300


@dataclass(frozen=True)
class Progress:
    """The state of a run, read from its folder."""

    state: State
    reached: float | None
    """The highest budget that it has reached, FLOPs."""
    error: str = ""
    """The last line of a failed run's log."""


def progress(run: Run, folder: Path) -> Progress:
    """Progress of a run of the plan in ``folder``, by its record of milestones and checkpoints."""
    output = run.output(folder)
    rows = milestones(output)
    reached = reached_of(run, rows)
    last = max(reached, default=None)
    # The record is written just before the checkpoint: without it the end was not reached.
    ends = [row for row in rows if row["folder"] != output or is_at(row, run.budgets[-1])]
    if len(reached) == len(run.budgets) and all(map(is_saved, ends)):
        return Progress("finished", last)
    if is_held(output):
        return Progress("running", last)
    status = outcome(output)
    if status not in (None, 0, PREEMPTED, -signal.SIGTERM, -signal.SIGKILL):
        return Progress("failed", last, last_line(log_of(output)))
    return Progress("stopped" if (output / "checkpoints").exists() else "to do", last)


def reached_of(run: Run, rows: list[dict[str, Any]]) -> list[float]:
    """Return the budgets of a run that its record of milestones has."""
    return [b for b in run.budgets if any(is_at(row, b) for row in rows)]


def log_of(output: Path) -> Path:
    """The run's terminal output, of all attempts."""
    return output / "train.log"


def outcome(output: Path) -> int | None:
    """Return the exit status of the last attempt, if it has ended."""
    try:
        return int((output / "exit_status").read_text())
    except (OSError, ValueError):
        return None


def last_line(log: Path) -> str:
    """The last line of a log that names an error, else the last that says anything."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    except OSError:
        return ""
    said = [line[:ERROR_LENGTH] for line in lines if line]
    named = [line for line in said[-100:] if ERROR.match(line)]
    return (named or said or [""])[-1]


def train_cell(run: Run, folder: Path, parent: str | None) -> State:
    """Train a run to its end in a process of its own, from where it stands; its state after that.

    The process is the command that a user would type; what it prints goes to the run's
    ``train.log``. It gets SIGTERM, and saves, where :data:`STOP` appears in the plan's folder and
    where this process dies.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in a launcher's worker
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # is for the sweep, which writes STOP
        die_with_parent()
    output = run.output(folder)
    if (folder / STOP).exists():
        return "stopped"
    before = progress(run, folder)
    if before.state in ("finished", "running"):
        return before.state
    output.mkdir(parents=True, exist_ok=True)
    (output / "exit_status").unlink(missing_ok=True)
    with log_of(output).open("ab") as log:
        child = subprocess.Popen(
            command(run, folder, parent),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=be_a_child,
        )
    try:
        status = wait(child, folder / STOP)
    finally:
        if child.poll() is None:  # the launcher ends this worker: save first
            child.terminate()
            child.wait()
    write_file(output / "exit_status", str(status))
    return progress(run, folder).state


def command(run: Run, folder: Path, parent: str | None) -> list[str]:
    """The command that trains a run, as a child of the MLflow run ``parent``."""
    tag = [] if parent is None else [f"+tags.mlflow.parentRunId={parent}"]
    name = [f"experiment={run.name}", "ckpt_path=last", *tag]
    return [executable(), "train", "--config-dir", str(folder), *name]


def executable() -> str:
    """The console script of this installation.

    Raises:
        InputError: It is not there.
    """
    beside = Path(sysconfig.get_path("scripts")) / "agent-scaling"
    found = str(beside) if beside.exists() else shutil.which("agent-scaling")
    if found is None:
        raise InputError("agent-scaling is not on the PATH: install the package")
    return found


def wait(child: subprocess.Popen[bytes], stop: Path) -> int:
    """Exit status of ``child``, which gets SIGTERM once ``stop`` appears."""
    asked = False
    while (status := child.poll()) is None:
        if not asked and stop.exists():
            child.terminate()
            asked = True
        time.sleep(POLL)
    return status


def be_a_child() -> None:
    """SIGTERM alone ends this process: also when its parent is killed, and not SIGUSR2, by which
    SLURM tells all processes of a submitit job that it will end."""
    die_with_parent()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
