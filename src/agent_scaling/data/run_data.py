"""The interface of all data modules: what a run asks of its data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from lightning import LightningDataModule

from agent_scaling.data.batch import Batch
from agent_scaling.envs.families import Description

Kind = Literal["recordings", "unrolls"]
"""Games that somebody has recorded, and games that the policy in training plays."""


class RunData(LightningDataModule, ABC):
    """Base class of data modules: what the trainer, its callbacks and its summaries ask.

    Attributes:
        gives: The kinds of batches.
        observations: Names of the observations that the data have.
    """

    gives: ClassVar[frozenset[Kind]]
    observations: tuple[str, ...]

    @property
    @abstractmethod
    def game(self) -> Description:
        """The game that the policy learns; checkpoints carry it, and rollouts play it."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line for the terminal and the run's page."""

    @property
    def num_actions(self) -> int | None:
        """Size of the action set; None where the policy chooses it."""
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values that the run's record keeps; by default none."""
        return {}

    @property
    def recorded(self) -> RecordedData | None:
        """The recorded games among the data; None where all games are played."""
        return None

    def progress(self, frames: int) -> dict[str, float]:
        """Metrics of the data after ``frames`` frames of training; by default none."""
        return {}

    def coordinates(self, step: int) -> dict[str, Any]:
        """Games and frames of a training window; empty where a window exists only once."""
        return {}


class RecordedData(RunData):
    """Recorded games, some of them held out.

    Attributes:
        lookahead: Frames of the next window behind each; see ``Batch.ahead``.
        unroll_length: T, frames of each lane in a window.
    """

    gives = frozenset({"recordings"})

    @property
    def recorded(self) -> RecordedData:
        """The data module itself: all of its games are recorded."""
        return self

    @property
    @abstractmethod
    def train_frames(self) -> int:
        """Frames of one epoch."""

    @property
    @abstractmethod
    def val_games(self) -> int:
        """Number of held-out games; 0: there is no held-out loss."""

    @property
    @abstractmethod
    def recorded_scores(self) -> list[float]:
        """Final scores of the recorded games, of those that have one."""

    @abstractmethod
    def train_dataloader(self) -> Iterable[Batch]:
        """This rank's training windows, without end."""

    @abstractmethod
    def val_dataloader(self) -> Iterable[Batch]:
        """This rank's windows of the held-out games, the same each time."""
