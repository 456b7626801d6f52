"""Trials as training runs: what each rung costs, and how a run goes on from one to the next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent_scaling.policies.checkpoints.files import LAST, PREVIOUS
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import disk_errors, part_of, write_file, write_json
from agent_scaling.runtime.secrets import mask
from agent_scaling.studies import grid as grids
from agent_scaling.studies.experiments import experiment_file
from agent_scaling.studies.plan import train_one
from agent_scaling.studies.plan_file import FILE, Plan, Run
from agent_scaling.studies.tuning.search import Trial
from agent_scaling.studies.tuning.space import Key, Value
from agent_scaling.tracking.milestones import TABLE, is_at, is_saved, milestones
from agent_scaling.training.course.branches import Branch

CONSTANT, COOLDOWN = "schedule=constant", "schedule=cooldown"


def budgets_of(budget: float, rungs: int, eta: int) -> tuple[float, ...]:
    """Return the FLOPs of each rung, ascending; the last is ``budget``, each ``eta`` times more."""
    return tuple(float(f"{budget / eta**left:.4g}") for left in reversed(range(rungs)))


@dataclass(frozen=True)
class Bench:
    """The things that all trials share: the recipe, the size, the rungs and the store.

    Attributes:
        request: The grid of one size whose budgets are the rungs; its variants are the trials.
        launcher: Hydra's settings with which the runs are launched.
    """

    request: grids.Request
    launcher: Mapping[str, Any]

    def run(self, trial: Trial) -> Run:
        """Return the run of a trial, to its present rung.

        Raises:
            InputError: ``train`` refuses its settings.
        """
        return replace(self._run(trial.name, trial.settings), budgets=self.rungs[: trial.rung + 1])

    def check(self, keys: Sequence[Key]) -> Run:
        """Make the run of the recipe alone, and of each key's extremes; return the recipe's.

        Raises:
            InputError: ``train`` refuses one, the schedule does not allow rungs, or two rungs end
                in the same step.
        """
        for key in keys:
            for value in key.extremes:
                self._run("", {key.name: value})
        cfg = grids.compose(self.request)
        schedule = cfg.schedule
        falls = schedule.get("decay", "constant") != "constant" and not schedule.get("branches")
        if falls and len(self.rungs) > 1:
            raise InputError(
                f"train.schedule: its rate falls to the end of one budget, so that no trial can go "
                f"on past a rung; give train.{COOLDOWN} (or train.{CONSTANT}), or rungs=1"
            )
        made = self._run("", {})
        grids.served(self.request, made, grids.data_of(cfg))
        return replace(made, budgets=self.rungs)

    def own(self, keys: Sequence[Key]) -> dict[str, Value] | None:
        """Return the recipe's own values of the keys; ``None``: one lies outside its range."""
        from omegaconf import OmegaConf

        cfg = grids.compose(self.request)
        found = {key.name: OmegaConf.select(cfg, key.name.removeprefix("+")) for key in keys}
        return found if all(key.has(found[key.name]) for key in keys) else None

    @property
    def rungs(self) -> tuple[float, ...]:
        """FLOPs of each rung."""
        return tuple(self.request.budgets)

    def _run(self, name: str, settings: Mapping[str, Value]) -> Run:
        one = replace(self.request, variants={name: settings} if name else {})
        if not name and settings:
            one = replace(one, train={**self.request.train, **settings})
        (size,), cfg = one.sizes, grids.compose(one, name)
        sized = grids.compose(one, name, size)
        made = grids.solved(one, name, size, sized, grids.data_of(cfg))
        return replace(made, name=name, study=one.name, seed=one.seeds[0])

    def plan(self, trials: Sequence[Trial], runs: Sequence[Run]) -> Plan:
        """Return the plan of these trials."""
        cfg = grids.compose(self.request)
        return Plan(
            name=self.request.name,
            convention=self.request.convention,
            train=self.request.train,
            variants={trial.name: dict(trial.settings) for trial in trials},
            data=grids.data_of(cfg).fingerprint,
            store=grids.store_of(cfg),
            runs=tuple(runs),
            launcher=self.launcher,
        )

    def write(self, made: Plan, run: Run, folder: Path) -> None:
        """Write a run's experiment for ``train``."""
        one = replace(self.request, variants=made.variants)
        planned = grids.planned(one, run, folder, grids.compose(one, run.variant))
        head = [
            f"{made.name} {run.name}: {run.params:,} parameters, {run.budgets[-1]:.4g} FLOPs "
            f"({made.convention} convention)",
            f"  {train_one(folder, run)}",
        ]
        text = experiment_file(one.settings(run.variant), planned, head)
        write_file(folder / "experiment" / f"{run.name}.yaml", mask(text))


def lay_out(bench: Bench, trials: Sequence[Trial], runs: Sequence[Run], folder: Path) -> Plan:
    """Write the plan of all trials so far, and the experiments of those that go on.

    A run whose rung has risen goes on from where its rate began to fall.
    """
    path = folder / FILE
    before = json.loads(path.read_text())["runs"] if path.exists() else []
    reached = {run["name"]: run["budgets"] for run in before}
    made = bench.plan(trials, runs)
    for trial, run in zip(trials, runs, strict=True):
        if trial.state != "goes on":
            continue
        was = reached.get(run.name, [])
        if was and len(was) < len(run.budgets):
            rejoin(run.output(folder), was[-1])
        bench.write(made, run, folder)
    write_file(path, made.to_json())  # last: until it is there, a repeated call does the same
    return made


def rejoin(output: Path, budget: float) -> None:
    """Make the end of a run's decay a branch of it, and go back to where the decay began.

    The run then is what one of a higher budget would be that had this branch. With a constant rate
    nothing needs to be done. A repeated call changes nothing.
    """
    branch, checkpoints = Branch(budget, output), output / "checkpoints"
    (output / "exit_status").unlink(missing_ok=True)  # that of the attempt before
    if not branch.point.exists():
        return
    rows = [row for row in milestones(output) if row["folder"] == output]
    with disk_errors(branch.output):
        for row in rows:
            if is_at(row, budget) and is_saved(row) and not branch.done:
                own = branch.output / row["checkpoint"]
                own.parent.mkdir(parents=True, exist_ok=True)
                link(output / row["checkpoint"], own)
                kept = {key: value for key, value in row.items() if key != "folder"}
                write_json(branch.output / TABLE, [kept])
        (output / TABLE).unlink(missing_ok=True)
        link(branch.point, checkpoints / LAST)
        (checkpoints / PREVIOUS).unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Put ``source`` in the place of ``target``, too: a link where the disk has links."""
    part = part_of(target)
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
    with suppress(OSError):  # both names were one file already
        part.unlink()


def value_of(run: Run, folder: Path, key: str) -> float | None:
    """Return what a run has measured at its last budget; ``None``: nothing yet."""
    rows = [row for row in milestones(run.output(folder)) if is_at(row, run.budgets[-1])]
    found = rows[-1].get(key) if rows else None
    return None if found is None else float(found)
