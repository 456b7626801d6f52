"""The LightningDataModule of unrolls and demonstrations, side by side in a CombinedLoader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch.utilities import CombinedLoader

from agent_scaling.data.batch import Batch
from agent_scaling.data.run_data import RecordedData, RunData
from agent_scaling.envs.families import Description
from agent_scaling.training.modules.impala import Impala
from data_modules.actors import ActorsDataModule
from data_modules.shards import ShardsDataModule


class MixedDataModule(RunData):
    """Gives each step an unroll and a window of recorded games.

    Batches are ``{"unroll": …, "demonstrations": …}``. The held-out loss is that of the
    demonstrations.
    """

    gives = frozenset({"recordings", "unrolls"})

    def __init__(self, unrolls: ActorsDataModule, demonstrations: ShardsDataModule) -> None:
        """Combine two data modules.

        Args:
            unrolls: Games that the policy plays.
            demonstrations: Recorded games.
        """
        super().__init__()
        self.unrolls, self.demonstrations = unrolls, demonstrations
        self.observations = tuple(
            name for name in unrolls.observations if name in demonstrations.observations
        )

    @property
    def description(self) -> str:
        """One line about both parts, for the terminal."""
        return f"{self.unrolls.description}; beside {self.demonstrations.description}"

    @property
    def game(self) -> Description:
        """The game that is played."""
        return self.unrolls.game

    @property
    def num_actions(self) -> int | None:
        """Size of the played game's action set."""
        return self.unrolls.num_actions

    @property
    def recorded(self) -> RecordedData:
        """The recorded games: the demonstrations."""
        return self.demonstrations

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the data for the run's record."""
        return {**self.unrolls.facts, **self.demonstrations.facts}

    def progress(self, frames: int) -> dict[str, float]:
        """Return the metrics of both parts since the last call."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, Impala)
        cloned = self.demonstrations.progress(module.worked["cloning"])
        return {**self.unrolls.progress(frames), **cloned}

    def coordinates(self, step: int) -> dict[str, Any]:
        """Return the games and frames of a step's demonstrations; unrolls are on no disk."""
        return self.demonstrations.coordinates(step)

    def train_dataloader(self) -> CombinedLoader:
        """Return a loader of both, as long as the unrolls go on."""
        self.unrolls.trainer = self.demonstrations.trainer = self.trainer
        loaders = {
            "unroll": self.unrolls.train_dataloader(),
            "demonstrations": Placed(self.demonstrations.train_dataloader()),
        }
        return CombinedLoader(loaders, mode="min_size")

    def teardown(self, stage: str) -> None:
        """End the games and their processes."""
        self.unrolls.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """End the games and their processes."""
        self.unrolls.on_exception(exception)

    def state_dict(self) -> dict[str, Any]:
        """Return the demonstrations' data position."""
        return self.demonstrations.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the demonstrations' data position."""
        self.demonstrations.load_state_dict(state_dict)


class Placed:
    """A loader whose data module knows its position, so that Lightning restores none."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the state, which is empty."""
