"""The interface of a run's callbacks: milestones, their order, and their roles."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum, auto
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from agent_scaling.data.run_data import RunData
from agent_scaling.envs.families import Description
from agent_scaling.policies.flops import Convention
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sharding import whole_policy
from agent_scaling.training.device.utilisation import Utilisation
from agent_scaling.training.modules.base import PolicyModule


class Stage(IntEnum):
    """The order in which callbacks act at one moment."""

    STOP = auto()
    """Ranks agree on stopping."""
    GUARD = auto()
    """A broken step ends the run."""
    AVERAGE = auto()
    """The weights are averaged."""
    BUDGET = auto()
    """The budget's milestones are announced."""
    COUNT = auto()
    """The data and the reference players are measured, once."""
    MEASURE = auto()
    """The policy is evaluated and played."""
    RECORD = auto()
    """The measurements are written down."""
    SAVE = auto()
    """The checkpoint is saved, with the record in it."""
    HAND_IN = auto()
    """The saved policy goes to MLflow."""
    SHOW = auto()
    """The terminal shows it."""


class RunCallback(Callback):
    """A callback of a run; its methods below do nothing unless a subclass overrides them.

    Attributes:
        stage: Its place in the order of callbacks; :func:`in_order` sorts by it.
    """

    stage: ClassVar[Stage] = Stage.MEASURE

    def before_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Prepare for a milestone; every callback prepares before any acts on it."""

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Act on a milestone.

        Args:
            trainer: The trainer.
            module: The module in training.
            flops: The milestone's nominal FLOPs.
        """

    def at_milestone(self) -> dict[str, float]:
        """Return the metrics of the latest milestone, for the table of milestones."""
        return {}


class StopsRuns(RunCallback):
    """A callback that may end a run early.

    Attributes:
        stopped_by: The signal for which it ended the run, if it did.
    """

    stage = Stage.STOP
    stopped_by: signal.Signals | None = None


class AveragesWeights(RunCallback):
    """A callback that keeps an average of the weights."""

    stage = Stage.AVERAGE

    @property
    def policy(self) -> Policy | None:
        """The averaged policy; None where no average is kept."""
        return None


class HasBudget(RunCallback):
    """A callback that ends the run at a number of FLOPs.

    Attributes:
        budget: Training FLOPs, all ranks; None for no limit.
        convention: The convention that counts them.
    """

    stage = Stage.BUDGET
    budget: float | None
    convention: Convention


class CountsActions(RunCallback):
    """A callback that counts the actions of the training games.

    Attributes:
        unigram_A: Nats of each action; None before they are counted.
    """

    stage = Stage.COUNT
    unigram_A: Tensor | None


class MeasuresLoss(RunCallback):
    """A callback that measures ``val/nats`` on held-out games."""


class PlaysGames(RunCallback):
    """A callback that plays the policy.

    Attributes:
        seeds: The episodes.
    """

    seeds: Sequence[int]

    def played_game(self, policy: Policy) -> Description:
        """Return the game to play, with its options: the policy's own unless overridden."""
        return policy.game


class MeasuresSpeed(RunCallback):
    """A callback that knows what share of its devices a run uses.

    Attributes:
        utilisation: The FLOPs executed and the devices' peak; None where that is not known.
    """

    stage = Stage.RECORD
    utilisation: Utilisation | None


class KeepsMilestones(RunCallback):
    """A callback that keeps the table of milestones.

    Attributes:
        milestones: A row per milestone so far: plain values by metric.
    """

    stage = Stage.RECORD
    milestones: list[dict[str, Any]]


T = TypeVar("T", bound=Callback)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the trainer's callbacks, in the order in which they act."""
    return cast("list[Callback]", vars(trainer)["callbacks"])


def run_callbacks(trainer: Trainer) -> list[RunCallback]:
    """Return the trainer's callbacks that take part in milestones."""
    return [callback for callback in callbacks_of(trainer) if isinstance(callback, RunCallback)]


def find(trainer: Trainer, kind: type[T]) -> T | None:
    """Return the trainer's first callback of a class, if it has one."""
    return next((c for c in callbacks_of(trainer) if isinstance(c, kind)), None)


def in_order(callbacks: Iterable[Callback]) -> list[Callback]:
    """Sort callbacks by stage; callbacks of other libraries have none, and act last.

    Callbacks of one stage keep the order in which they are given.
    """
    return sorted(callbacks, key=lambda c: c.stage if isinstance(c, RunCallback) else Stage.SHOW)


def run_module(module: LightningModule) -> PolicyModule:
    """The module in training, typed."""
    assert isinstance(module, PolicyModule)
    return module


def run_data(trainer: Trainer) -> RunData:
    """The trainer's data module, typed."""
    data = vars(trainer)["datamodule"]
    assert isinstance(data, RunData)
    return data


def step_loss(outputs: STEP_OUTPUT) -> Tensor:
    """The loss of a training step, from what Lightning hands to callbacks."""
    assert isinstance(outputs, Mapping)
    loss: Tensor = outputs["loss"]
    return loss


def evaluated(trainer: Trainer, module: PolicyModule) -> Policy:
    """Return the policy to evaluate and play, whole: the averaged one where an average is kept.

    Every rank must call it.
    """
    average = find(trainer, AveragesWeights)
    if average is not None and average.policy is not None:
        return average.policy
    return whole_policy(module.policy)


def measurements(trainer: Trainer) -> dict[str, Any]:
    """Metrics that all callbacks measured at the latest milestone."""
    found: dict[str, Any] = {}
    for callback in run_callbacks(trainer):
        found |= callback.at_milestone()
    return found


def milestone_name(flops: float) -> str:
    """File name of a milestone's checkpoint: ``flops_1e+12.ckpt``."""
    return f"flops_{flops:.4g}.ckpt"


def checkpoint_folder(trainer: Trainer) -> Path:
    """The folder of a run's checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"


def crossed(module: PolicyModule, every: int) -> bool:
    """True where the last step took the module's frames past a multiple of ``every``."""
    return module.frames // every > (module.frames - module.step_frames) // every
