"""Baselines: the held-out loss of unigram and bigram tables of the training games."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.evaluation.action_tables import fit_tables
from agent_scaling.runtime.ranks import count_ranks
from agent_scaling.tracking.logger import log_metrics
from agent_scaling.training.course.saved import Number, state_of
from agent_scaling.training.hooks import CountsActions, run_data, run_module


class Baselines(CountsActions):
    """Logs ``baseline/unigram_nats`` and ``baseline/bigram_nats`` once, before the first step.

    Args:
        max_frames: Training frames that the tables are fitted on, at most one epoch.
    """

    def __init__(self, max_frames: int = 5_000_000) -> None:
        self.max_frames = max_frames
        self.found: dict[str, float] = {}
        self.unigram_A: Tensor | None = None
        """Nats of each action in the training games."""

    def state_dict(self) -> dict[str, Any]:
        """Return the baselines, so that a resumed run does not count again."""
        return {"found": self.found, "unigram_A": self.unigram_A}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the baselines that were found."""
        self.found = state_of(dict[str, Number], state_dict["found"])
        self.unigram_A = state_dict.get("unigram_A")  # a checkpoint from before this was kept

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the tables on the training games, and score them on the held-out frames."""
        module = run_module(pl_module)
        data = run_data(trainer).recorded
        if self.found or data is None or data.val_games == 0:
            return
        batches = first(data.train_dataloader(), min(self.max_frames, data.train_frames))
        tables = fit_tables(batches, module.policy.num_actions)
        self.unigram_A = tables.unigram_A
        self.found = tables.nats(data.val_dataloader())
        log_metrics(trainer, module, self.at_milestone())

    def at_milestone(self) -> dict[str, float]:
        """Return the losses of both tables."""
        return {f"baseline/{name}": value for name, value in self.found.items()}


def first(batches: Iterable[Batch], frames: int) -> Iterator[Batch]:
    """Yield the first batches, until all ranks together have had ``frames`` frames."""
    seen = 0
    for batch in batches:
        yield batch
        seen += (batch.steps - batch.ahead) * batch.lanes * count_ranks()
        if seen >= frames:
            return
