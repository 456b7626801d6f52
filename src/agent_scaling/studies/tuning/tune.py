"""The ``tune`` verb: searches a few keys of ``train``, with FLOPs as the cost of a trial."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt

from agent_scaling.config.check import flatten
from agent_scaling.config.command import command, typed_words
from agent_scaling.config.kept import keep
from agent_scaling.policies.flops import Convention
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.formats import compact
from agent_scaling.runtime.locks import output_locked
from agent_scaling.runtime.terminal import say
from agent_scaling.scaling.runs.fit_file import Positive
from agent_scaling.studies import grid as grids
from agent_scaling.studies.mlflow_parent import check_store, close_parent, open_parent
from agent_scaling.studies.plan import check
from agent_scaling.studies.plan_file import Plan, Run
from agent_scaling.studies.run_cell import POLL, PREEMPTED, progress
from agent_scaling.studies.sweep import reason, train_all
from agent_scaling.studies.tuning.result import MEASURES, Measure, keep_results
from agent_scaling.studies.tuning.rungs import Bench, budgets_of, lay_out, value_of
from agent_scaling.studies.tuning.search import Pruner, Sampler, Search, Trial, library
from agent_scaling.studies.tuning.space import space_of

SETTINGS, JOURNAL = "tune.json", "trials.journal"
FREE = ("output", "total", "at_once", "launcher")
"""Keys that a repeated call may change."""
TRIES = 2
"""Attempts at a rung before a trial that fails is given up."""
DIVERGED = "is not finite"
"""Part of the last line of a run whose loss or gradient diverged."""


def tune(
    *,
    name: str,
    train: Mapping[str, Any],
    search: Mapping[str, Any],
    size: Positive | Mapping[str, Positive],
    budget: Positive,
    total: Positive,
    rungs: int = 3,
    eta: int = 3,
    measure: Literal["loss", "return"] = "loss",
    sampler: Sampler = "tpe",
    pruner: Pruner = "halving",
    at_once: int = 1,
    seed: NonNegativeInt = 0,
    convention: Convention = "model",
    launcher: Mapping[str, Any] | None = None,
    output: str,
) -> None:
    """Search the keys of ``search`` for the best values; a repeated call goes on.

    A trial is a training run with one value of each key. It is trained to its first rung, and goes
    on to the next one only if it is among the best there; its run then resumes, and nothing is
    trained twice. ``output`` is a plan's folder (``runs``, ``experiment``, ``plan.json``) with the
    table ``trials.csv`` and the best settings, ``experiment/best.yaml``.

    Args:
        name: Of the search: the tag ``study`` of its runs.
        train: Settings of ``train`` for all trials, nested or by dotted key.
        search: Keys of ``train``: each has ``{lowest, highest, scale}``, where scale is log or
            linear, or a list of choices.
        size: Parameters of all policies; or ``{policy.encoder.width: 3}``, the key that makes it.
        budget: FLOPs of a trial that is trained to its end.
        total: FLOPs of all trials together, which are never exceeded.
        rungs: Numbers of FLOPs at which trials are measured and compared; 1 trains each to its end.
        eta: Ratio of two rungs; about one in ``eta`` trials goes on.
        measure: What to improve: the held-out ``loss`` or the mean ``return`` of the rollouts.
        sampler: Of Optuna: see :class:`~agent_scaling.studies.tuning.search.Search`.
        pruner: Likewise.
        at_once: Trials that are trained at the same time.
        seed: Of the training runs and of the sampler.
        convention: Convention that FLOPs are counted in.
        launcher: Hydra's settings with which the runs are launched; by default, joblib with
            ``at_once`` of them.
        output: Folder.

    Raises:
        InputError: Optuna is not installed, an impossible setting, or another search in ``output``.
        SystemExit: 1 where all runs of a round failed, 143 where the search was stopped.
    """
    library()
    folder = Path(output).resolve()
    settings = {key: value for key, value in locals().items() if key not in (*FREE, "folder")}
    numbers = {"rungs": rungs, "eta": eta - 1, "at_once": at_once}
    if low := [key for key, value in numbers.items() if value < 1]:
        raise InputError(f"{low[0]}: must be at least {2 if low[0] == 'eta' else 1}")
    keys = space_of(search)
    bench = bench_of(name, train, size, budgets_of(budget, rungs, eta), seed, convention)
    bench = Bench(bench.request, flatten(launcher or {}) or parallel(at_once))
    whole = bench.check(keys)
    if total < whole.trained:
        raise InputError(
            f"total={total:g}: one trial to its end costs {whole.trained:.3g} FLOPs; give more"
        )
    check_store(grids.store_of(grids.compose(bench.request)))
    with output_locked(folder, "search"):
        keep(settings, folder / SETTINGS, "trials")
        found = Search(
            folder / JOURNAL, keys, rungs=rungs, eta=eta, sampler=sampler, pruner=pruner,
            maximise=MEASURES[measure].maximise, seed=seed,
        )  # fmt: skip
        if (own := bench.own(keys)) is not None:
            found.begin_with(own)
        Tuning(bench, found, MEASURES[measure], folder, whole.trained, total, at_once).go()


def bench_of(
    name: str,
    train: Mapping[str, Any],
    size: float | Mapping[str, float],
    rungs: Sequence[float],
    seed: int,
    convention: Convention,
) -> Bench:
    """Return what all trials share.

    Raises:
        InputError: An impossible name, size or convention.
    """
    shared = flatten(train)
    if shared.get("data.shards", "") is None:  # learning by playing has none
        del shared["data.shards"]
    given = {key: [value] for key, value in size.items()} if isinstance(size, Mapping) else [size]
    sized_by, sizes = grids.sizes_of(given)
    request = grids.Request(
        name=name,
        sizes=sizes,
        sized_by=sized_by,
        budgets=list(rungs),
        seeds=[seed],
        variants={},
        train=shared,
        runs="milestones",
        convention=convention,
        ratios=None,
    )
    check(request)
    return Bench(request, {})


def parallel(at_once: int) -> dict[str, Any]:
    """Return Hydra's settings that launch so many runs at the same time on this machine."""
    if at_once == 1:
        return {}
    return {"hydra/launcher": "joblib", "hydra.launcher.n_jobs": at_once}


class Tuning:
    """A search under way: rounds of trials that are trained together.

    Args:
        bench: The recipe and the rungs of all trials.
        search: The trials.
        measure: What they are compared by.
        folder: The output folder.
        whole: FLOPs of a trial that is trained to its end.
        total: FLOPs of all trials.
        at_once: Trials of a round.
    """

    def __init__(
        self,
        bench: Bench,
        search: Search,
        measure: Measure,
        folder: Path,
        whole: float,
        total: float,
        at_once: int,
    ) -> None:
        self.bench, self.search, self.measure, self.folder = bench, search, measure, folder
        self.whole, self.total, self.at_once = whole, total, at_once
        self._runs: dict[tuple[str, int], Run] = {}

    def go(self) -> None:
        """Train rounds until the FLOPs are spent; keep the results.

        Raises:
            SystemExit: A signal stopped it, or all runs of a round failed.
        """
        made: Plan | None = None
        while going := self.round():
            made = lay_out(self.bench, *self.laid_out(), self.folder)
            open_parent(made, self.folder)
            stopped = train_all(made, self.folder, None, picture=False)
            if stopped or not self.went(going):
                close_parent(made, self.folder, "KILLED" if stopped else "FAILED")
                self.leave(stopped)
        if made is None:  # all was done before
            made = self.bench.plan(*self.laid_out())
            open_parent(made, self.folder)
        keep_results(self.bench, self.search, self.measure, made, self.folder, self.spent())
        close_parent(made, self.folder, "FINISHED")

    def round(self) -> list[Trial]:
        """Return the trials to train now: those that go on, and new ones for the FLOPs left.

        A trial counts with its cost to the last rung as long as it may reach that.
        """
        self.settle()
        going = self.going()
        while len(going) < self.at_once and self.spent() + self.whole <= self.total:
            trial = self.search.ask()
            try:
                self.run(trial)
            except InputError as error:
                say(f"{trial.name}  failed: {error}")
                self.search.end(trial, "failed")
            else:
                going.append(trial)
        return going[: self.at_once]

    def going(self) -> list[Trial]:
        """Return the trials that go on, those of the highest rung first."""
        found = [trial for trial in self.search.trials() if trial.state == "goes on"]
        return sorted(found, key=lambda trial: -trial.rung)

    def spent(self) -> float:
        """FLOPs of all trials: those of trials that go on count to their end."""
        costs = []
        for trial in self.search.trials():
            if trial.state == "goes on":
                costs.append(self.whole)
            elif trial.state != "failed" or trial.values:
                costs.append(self.run(trial).trained)
        return sum(costs)

    def run(self, trial: Trial) -> Run:
        """Return a trial's run."""
        key = trial.name, trial.rung
        if key not in self._runs:
            self._runs[key] = self.bench.run(trial)
        return self._runs[key]

    def laid_out(self) -> tuple[list[Trial], list[Run]]:
        """Return the trials that go on or were measured, and their runs.

        The run of one that has ended goes to the last rung that it reached: a plan trains all else.
        """
        trials = [t for t in self.search.trials() if t.state == "goes on" or t.values]
        runs = [self.run(trial) for trial in trials]
        ends = [t.rung if t.state == "goes on" else max(t.values) for t in trials]
        return trials, [
            replace(run, budgets=run.budgets[: end + 1])
            for run, end in zip(runs, ends, strict=True)
        ]

    def settle(self) -> None:
        """Tell the search what trials have measured, the best first; say what follows."""
        sign = -1 if self.measure.maximise else 1
        measured: list[tuple[float, Trial]] = []
        for trial in self.going():
            run = self.run(trial)
            if progress(run, self.folder).state != "finished":
                continue
            value = value_of(run, self.folder, self.measure.key)
            if value is None:
                raise InputError(
                    f"measure: {run.output(self.folder)} has no {self.measure.key} in its "
                    "milestones; keep the callback that measures it"
                )
            measured.append((value, trial))
        for value, trial in sorted(measured, key=lambda one: (sign * one[0], one[1].number)):
            now = self.search.tell(trial, value)
            told = f"{value:{self.measure.form}} {self.measure.name}"
            reached = compact(self.bench.rungs[trial.rung])
            say(f"{trial.name}  {told} at {reached} FLOPs: {now.state}")

    def went(self, trials: Sequence[Trial]) -> bool:
        """Deal with the runs of a round that have not finished; return whether to go on."""
        states = {trial.name: progress(self.run(trial), self.folder) for trial in trials}
        by_state = [at.state for at in states.values()]
        if "stopped" in by_state or "to do" in by_state:
            return False
        if "running" in by_state:
            time.sleep(POLL)  # of another process, which ends
        lost = [t for t in trials if states[t.name].state == "failed" and not self.fail(t)]
        return len(lost) < len(trials)

    def fail(self, trial: Trial) -> bool:
        """Deal with a failed run; return whether its settings are why: it diverged."""
        run = self.run(trial)
        at = progress(run, self.folder)
        say(reason(run, at, self.folder))
        if DIVERGED in at.error:
            self.search.end(trial, "diverged")
            return True
        if self.search.retry(trial).tries >= TRIES:
            self.search.end(trial, "failed")
        return False

    def leave(self, stopped: bool) -> None:
        """Say how to go on, and exit with 143 after a signal, else with 1."""
        words = typed_words()
        if words is not None:
            say(f"to go on: {command(*words)}")
        sys.exit(PREEMPTED if stopped else 1)
