"""The ``sweep`` verb: trains a plan's unfinished runs with Hydra's multirun and launchers."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from agent_scaling.config.call import call_verb
from agent_scaling.config.command import command, setting
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.terminal import say
from agent_scaling.studies.mlflow_parent import (
    REMEMBERED,
    close_late,
    close_parent,
    open_parent,
)
from agent_scaling.studies.plan_file import Plan, Run, load
from agent_scaling.studies.run_cell import PREEMPTED, STOP, Progress, log_of, progress, train_cell

HELD_ELSEWHERE = "another process trains it"
CHECK = "validate_batch_is_legal"
"""The method by which Hydra's sweepers compose all runs beforehand; another Hydra may have none."""


def sweep(*, plan: str, run: str | None = None) -> str | None:
    """Train the unfinished runs of a plan; interrupted ones resume.

    A run is finished if its folder has all milestones and the last checkpoint. With ``run``, only
    that run is trained, which is how Hydra's launchers call this verb. Otherwise a table shows all
    runs while they train, or lines where the output is no terminal.

    Args:
        plan: Folder that ``agent-scaling plan`` wrote.
        run: Name of one run; ``None``: all, with the launcher that Hydra is given.

    Returns:
        With ``run``, its state.

    Raises:
        InputError: No plan there, no run of that name, or no store that can be used.
        SystemExit: 1 where a run failed or another process trains it, 143 where the sweep was
            stopped.
    """
    folder = Path(plan).resolve()
    made = load(folder)
    if run is not None:
        return train_one(made, folder, run)
    sweep_all(made, folder, 10 * max(budget for run in made.runs for budget in run.budgets))
    return None


def sweep_all(made: Plan, folder: Path, ahead: float | None) -> None:
    """Train all unfinished runs, and show them; exits as :func:`sweep` does.

    Args:
        made: The plan.
        folder: Its folder.
        ahead: FLOPs to forecast from the cells that are finished; ``None``: none are.
    """
    begun = {name: at.state for name, at in states(made, folder).items()}
    if all(state == "finished" for state in begun.values()):
        say(f"{made.name}: {len(begun)} of {len(begun)} runs finished")
        close_late(made, folder)
        return
    open_parent(made, folder)
    stopped = train_all(made, folder, ahead)
    end(made, states(made, folder), folder, stopped)


def train_all(made: Plan, folder: Path, ahead: float | None, picture: bool = True) -> bool:
    """Train all unfinished runs, and show them; return whether a signal has stopped them.

    ``picture``: leave the table on the terminal at the end.
    """
    # Imported here: a launcher's job imports this file, and needs no pandas.
    from agent_scaling.studies.display.show import showing

    begun = {name: at.state for name, at in states(made, folder).items()}
    left = [name for name, state in begun.items() if state not in ("finished", "running")]
    with (
        showing(made, folder, begun, ahead, picture) as show,
        stopping(folder / STOP, show.say) as stop,
    ):
        if left:
            launch(folder, left, made.launcher)
        return stop.exists()


def train_one(made: Plan, folder: Path, name: str) -> str:
    """Train the run ``name`` in a process of its own; its state, said in one line.

    Nothing is said in a job of a launcher, whose runs the sweep itself shows.
    """
    found = next((run for run in made.runs if run.name == name), None)
    if found is None:
        raise InputError(f"run={name}: {folder} has no such run")
    remembered = folder / REMEMBERED
    parent = remembered.read_text() if remembered.exists() else None
    begin = time.monotonic()
    state = train_cell(found, folder, parent)
    if not of_launcher():
        say(f"{state:8}  {name}  ({(time.monotonic() - begin) / 60:.1f} min)")
    return state


def of_launcher() -> bool:
    """True in a job of a launcher: it has a number among the others."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def states(made: Plan, folder: Path) -> dict[str, Progress]:
    """State of each run, read from its folder, by the run's name."""
    return {run.name: progress(run, folder) for run in made.runs}


def launch(folder: Path, names: list[str], settings: Mapping[str, Any]) -> None:
    """Hydra's multirun over ``names``; the command line's launcher wins over the plan's."""
    hydra = GlobalHydra.instance().hydra
    if hydra is None:
        raise InputError("sweep: runs as a verb of the command line only")
    # An option of a group is a bare word to Hydra; other values are as JSON writes them.
    planned = [f"{k}={v if '/' in k else json.dumps(v)}" for k, v in settings.items()]
    asked = [o for o in HydraConfig.get().overrides.hydra if not o.startswith("hydra.mode=")]
    if any(line.startswith("hydra/launcher=") for line in asked):
        planned = []
    overrides = [setting("plan", folder), "run=" + ",".join(names), *planned, *asked]
    # Composing all configs beforehand, to find mistakes, takes some 0.15 s each, and the first run
    # waits for it. They differ in the names of runs alone, which the plan has.
    with patch.object(Sweeper, CHECK, lambda *_: None, create=True):
        hydra.multirun(config_name="sweep", task_function=call_verb, overrides=overrides)


@contextmanager
def stopping(stop: Path, tell: Callable[[str], None]) -> Iterator[Path]:
    """SIGTERM and SIGINT write the file ``stop``, which ends the runs wherever they are."""
    stop.unlink(missing_ok=True)

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.exists():
            sys.exit(128 + signum)
        stop.write_text(signal.Signals(signum).name)
        tell("stopping: the runs save their checkpoints (again: leave at once)")

    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def end(made: Plan, after: Mapping[str, Progress], folder: Path, stopped: bool) -> None:
    """Name what is missing and why; exit with 1, or with 143 where the sweep was stopped."""
    missing = [run for run in made.runs if after[run.name].state != "finished"]
    status = "KILLED" if stopped else "FAILED" if missing else "FINISHED"
    close_parent(made, folder, status)
    for run in missing:
        say(reason(run, after[run.name], folder))
    if missing:
        say(f"to go on: {command('sweep', setting('plan', folder))}")
        sys.exit(PREEMPTED if stopped else 1)


def reason(run: Run, at: Progress, folder: Path) -> str:
    """One line: the run, its last error line and its log."""
    text = HELD_ELSEWHERE if at.state == "running" else at.error or at.state
    return f"{at.state}  {run.name}: {text}  ({log_of(run.output(folder))})"
