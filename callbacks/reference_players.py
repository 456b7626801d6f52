"""Reference players: returns to compare the policy's with, under the same protocol."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer

from agent_scaling.envs.nethack import MAX_EPISODE_STEPS
from agent_scaling.playing.demonstrators.reference import play_reference
from agent_scaling.tracking.logger import log_metrics
from agent_scaling.training.course.saved import Number, state_of
from agent_scaling.training.hooks import PlaysGames, RunCallback, Stage, find, run_data, run_module

OURS = ("max_episode_steps", "level_seed")
"""Options of games that scripted players get in another way, or not at all."""


class ReferencePlayers(RunCallback):
    """Logs ``reference/<player>_return_mean`` and ``…_se`` once, before the first step.

    ``reference/recorded_return_mean`` is the mean score that the recorded games themselves reached
    (their xlogfile's points), which had no step cap.

    They play the seeds of the run's :class:`~callbacks.rollouts.Rollouts`, under its step cap; a
    run without rollouts has nothing to compare.

    Args:
        players: Scripted players, e.g. ``random`` and ``demonstrator``.
    """

    stage = Stage.COUNT

    def __init__(self, players: Sequence[str]) -> None:
        self.players = list(players)
        self.found: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the results, so that a resumed run does not play again."""
        return {"found": self.found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the returns that were measured."""
        self.found = state_of(dict[str, Number], state_dict["found"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play and log, on the first rank alone."""
        rollouts = find(trainer, PlaysGames)
        if self.found or rollouts is None or not trainer.is_global_zero:
            return
        module = run_module(pl_module)
        game = rollouts.played_game(module.policy)
        options = {k: v for k, v in game.options.items() if k not in OURS}
        cap = game.options.get("max_episode_steps") or MAX_EPISODE_STEPS
        for player in self.players:
            games = play_reference(
                player, rollouts.seeds, max_steps=cap, family=game.family, options=options
            )
            self._add(player, [game.score for game in games])
        recorded = run_data(trainer).recorded
        self._add("recorded", recorded.recorded_scores if recorded else [])
        log_metrics(trainer, module, self.at_milestone())

    def _add(self, player: str, scores: Sequence[float]) -> None:
        if scores:
            self.found[f"{player}_return_mean"] = statistics.fmean(scores)
        if len(scores) > 1:
            self.found[f"{player}_return_se"] = statistics.stdev(scores) / len(scores) ** 0.5

    def at_milestone(self) -> dict[str, float]:
        """The reference returns, for the table of milestones."""
        return {f"reference/{name}": value for name, value in self.found.items()}
