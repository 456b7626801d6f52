"""The search itself, which is Optuna's: its samplers, its pruners and its journal of trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.tuning.space import Key, Value

INSTALL = "pip install 'agent-scaling[tune]'"
Sampler = Literal["tpe", "gp", "random"]
Pruner = Literal["halving", "hyperband", "none"]
State = Literal["goes on", "finished", "stopped", "diverged", "failed"]
AIM, TRIES, END = "rung", "tries", "end"
"""Keys of a trial's record in the journal, beside its values: the rung that it trains to, how often
its training has failed, and why it ended."""
STUDY = "tune"


def library() -> Any:
    """Return the module ``optuna``.

    Raises:
        InputError: It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(f"tune needs Optuna, an optional extra: {INSTALL}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass(frozen=True)
class Trial:
    """A trial as the journal has it.

    Attributes:
        number: From 0 on.
        settings: The value of each key.
        rung: The rung that it has been, or is being, trained to; 0 is the lowest.
        values: What it measured, by rung.
        tries: Attempts at its present rung that have failed.
        state: ``goes on`` until it has ended.
    """

    number: int
    settings: Mapping[str, Value]
    rung: int
    values: Mapping[int, float]
    tries: int
    state: State

    @property
    def name(self) -> str:
        """Its name, and that of its run."""
        return f"t{self.number:03d}"


class Search:
    """Trials of a space, kept in a journal on disk.

    Every suggestion depends on the seed, the trial's number and the journal alone, so that a search
    that was killed suggests what it would have suggested.

    Args:
        journal: The file; it is made if it is not there.
        keys: The space.
        rungs: Rungs of successive halving; a trial that ends has been measured at all of them.
        eta: About one in ``eta`` trials goes on at each rung.
        sampler: ``tpe``: Tree-structured Parzen Estimator (Bergstra et al. 2011); ``gp``: Gaussian
            process, which learns from trials that were measured at all rungs alone; ``random``.
        pruner: ``halving``: asynchronous successive halving (Li et al. 2018, arXiv 1810.05934);
            ``hyperband`` (Li et al. 2016, arXiv 1603.06560); ``none``: all trials go on.
        maximise: True for returns.
        seed: Of the sampler.
    """

    def __init__(
        self,
        journal: Path,
        keys: Sequence[Key],
        *,
        rungs: int,
        eta: int,
        sampler: Sampler,
        pruner: Pruner,
        maximise: bool,
        seed: int,
    ) -> None:
        self.optuna = library()
        self.keys, self.rungs, self.eta = keys, rungs, eta
        self.sampler, self.seed = sampler, seed
        mend(journal)
        backend = self.optuna.storages.journal.JournalFileBackend(str(journal))
        self.study = self.optuna.create_study(
            storage=self.optuna.storages.JournalStorage(backend),
            study_name=STUDY,
            load_if_exists=True,
            direction="maximize" if maximise else "minimize",
            pruner=self._pruner(pruner),
        )
        self.maximise = maximise

    def trials(self) -> list[Trial]:
        """Return all trials, in their order, without those that a kill left without settings."""
        return [
            made for frozen in self.study.get_trials(deepcopy=False) for made in self._read(frozen)
        ]

    def begin_with(self, settings: Mapping[str, Value]) -> None:
        """Try these settings first; a search that has begun already does not."""
        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(dict(settings))

    def ask(self) -> Trial:
        """Begin a trial, and return it."""
        number = len(self.study.get_trials(deepcopy=False))
        waiting = self.study.get_trials(
            deepcopy=False, states=(self.optuna.trial.TrialState.WAITING,)
        )
        self.study.sampler = self._sampler(number - len(waiting))
        asked = self.study.ask({key.name: self._distribution(key) for key in self.keys})
        return next(trial for trial in self.trials() if trial.number == asked.number)

    def tell(self, trial: Trial, value: float) -> Trial:
        """Record what a trial measured at its rung; return it as it stands then."""
        live = self._live(trial)
        if trial.rung not in trial.values:
            live.report(value, self.eta**trial.rung)
        if not math.isfinite(value):
            return self.end(trial, "diverged")
        if trial.rung + 1 == self.rungs:
            self.study.tell(trial.number, value)
        elif live.should_prune():
            return self.end(trial, "stopped")
        else:
            live.set_user_attr(AIM, trial.rung + 1)
            live.set_user_attr(TRIES, 0)
        return self._again(trial)

    def end(self, trial: Trial, why: State) -> Trial:
        """End a trial before its last rung.

        The sampler avoids what diverged and what was stopped; it learns nothing from what failed.
        """
        self._live(trial).set_user_attr(END, why)
        states = self.optuna.trial.TrialState
        self.study.tell(trial.number, state=states.FAIL if why == "failed" else states.PRUNED)
        return self._again(trial)

    def retry(self, trial: Trial) -> Trial:
        """Count a failed attempt."""
        self._live(trial).set_user_attr(TRIES, trial.tries + 1)
        return self._again(trial)

    def ranked(self) -> list[Trial]:
        """Return the trials that were measured: those of higher rungs first, then by value."""
        sign = -1 if self.maximise else 1

        def place(trial: Trial) -> tuple[int, float]:
            last = max(trial.values)
            value = trial.values[last]
            return -last, sign * value if math.isfinite(value) else math.inf

        return sorted((trial for trial in self.trials() if trial.values), key=place)

    def _again(self, trial: Trial) -> Trial:
        return next(found for found in self.trials() if found.number == trial.number)

    def _live(self, trial: Trial) -> Any:
        """Return Optuna's own object of a trial that goes on."""
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        return self.optuna.trial.Trial(self.study, frozen._trial_id)

    def _read(self, frozen: Any) -> Iterator[Trial]:
        if set(frozen.params) < {key.name for key in self.keys}:
            return
        settings = {key.name: key.tidy(frozen.params[key.name]) for key in self.keys}
        values = {
            round(math.log(step, self.eta)): v for step, v in frozen.intermediate_values.items()
        }
        state: State = frozen.user_attrs.get(END, "goes on")
        if frozen.state == self.optuna.trial.TrialState.COMPLETE:
            state = "finished"
        rung = frozen.user_attrs.get(AIM, 0)
        yield Trial(frozen.number, settings, rung, values, frozen.user_attrs.get(TRIES, 0), state)

    def _distribution(self, key: Key) -> Any:
        kinds = self.optuna.distributions
        if key.choices:
            return kinds.CategoricalDistribution(key.choices)
        kind = kinds.IntDistribution if key.whole else kinds.FloatDistribution
        return kind(key.lowest, key.highest, log=key.log)

    def _sampler(self, number: int) -> Any:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        samplers = self.optuna.samplers
        made = {"tpe": samplers.TPESampler, "gp": samplers.GPSampler}
        kind = made.get(self.sampler, samplers.RandomSampler)
        return kind(seed=seed)

    def _pruner(self, name: Pruner) -> Any:
        pruners = self.optuna.pruners
        if name == "none":
            return pruners.NopPruner()
        common = {"min_resource": 1, "reduction_factor": self.eta}
        if name == "hyperband":
            return pruners.HyperbandPruner(max_resource=self.eta ** (self.rungs - 1), **common)
        return pruners.SuccessiveHalvingPruner(**common)


def mend(journal: Path) -> None:
    """Cut off the part of a line that a kill left at a journal's end, and its writer's lock.

    The caller holds the lock of the folder: nobody else writes.
    """
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    whole = journal.read_bytes().rpartition(b"\n")
    if whole[2]:
        with journal.open("rb+") as file:
            file.truncate(len(whole[0]) + len(whole[1]))
