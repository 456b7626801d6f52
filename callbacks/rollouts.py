"""Rollouts: the policy in training plays its game every k frames and at each milestone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from agent_scaling.envs.families import (
    FAMILIES,
    Description,
    choose_game,
    count_actions,
    describe,
    find_family,
)
from agent_scaling.playing.options import PlayOptions
from agent_scaling.playing.play import Traces, play
from agent_scaling.playing.replays import chosen_episodes, write_replays
from agent_scaling.playing.rollouts.tables import summarise, write_tables
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.allocator import give_back_memory
from agent_scaling.runtime.ranks import gathered, own_cores
from agent_scaling.tracking.logger import log_file, log_metrics
from agent_scaling.training.hooks import PlaysGames, crossed, evaluated, run_module
from agent_scaling.training.modules.base import PolicyModule

NAMES = {
    "return": "return",
    "progression": "progression",
    "steps": "length",
    "turns": "turns",
    "max_depth": "depth",
    "level": "level",
}
"""Column of the table → name of the metric."""


class Rollouts(PlaysGames):
    """Plays the same ``episodes`` seeds each time, with batched inference; logs ``rollout/…``.

    Training is not disturbed: a copy of the policy plays, with noise of its own. Each table is kept
    as ``<output>/rollouts/<frames>.parquet`` and ``.csv``. Under DDP each rank plays its share of
    the seeds.

    The best, the median and the worst episode are kept as ``<output>/replays/<frames>/best.html``
    and ``.cast``, and so on. To choose them afterwards, each rank keeps 18 bytes of every step.

    Args:
        episodes: Episodes of each rollout.
        every_frames: Frames of training between rollouts, all ranks; ``None`` for milestones only.
        at_milestones: Play at each milestone of the FLOP budget, and at its end.
        workers: Game processes per rank; ``None`` starts one per core of the rank's share.
        lanes: Games at the same time per rank; ``None`` takes a block per core of its share.
        replays: Keep replays of three episodes.
        game: A family, or a game's import path, to play instead of the policy's own game.
        game_options: Options of that game, or further options of the policy's own game.
        how: The options of :class:`~agent_scaling.playing.options.PlayOptions`.

    Raises:
        InputError: An option is out of its range, or the game has no such option.
    """

    def __init__(
        self,
        episodes: int = 20,
        every_frames: int | None = None,
        at_milestones: bool = True,
        workers: int | None = None,
        lanes: int | None = None,
        replays: bool = True,
        game: str | None = None,
        game_options: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> None:
        self.how = PlayOptions(**how)
        self.seeds = range(self.how.seed, self.how.seed + episodes)
        self.every_frames, self.at_milestones = every_frames, at_milestones
        self.workers, self.lanes, self.replays = workers, lanes, replays
        self.game, self.game_options = game, dict(game_options or {})
        self.last_summary: dict[str, Any] = {}
        """The latest rollout's :func:`~agent_scaling.playing.rollouts.tables.summarise`."""
        self.last_table: pd.DataFrame | None = None
        self._played_at = -1

    def played_game(self, policy: Policy) -> Description:
        """Return the game to play, with the options that are given here.

        Raises:
            InputError: The game is of no family and ``game`` is not given, or lacks an option.
        """
        given = {**self.game_options, **self.how.rules}
        if self.game is not None and self.game not in FAMILIES:
            return describe(self.game, given)
        return choose_game(policy.game, self.game, options=given)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a game that cannot be played, before training starts."""
        module = run_module(pl_module)
        module.policy.check_causal("callbacks.rollouts, which is to be null")
        game = self.played_game(module.policy)
        count_actions(game)
        if self.replays:
            find_family(game.family)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Play when a multiple of ``every_frames`` is crossed."""
        module = run_module(pl_module)
        if self.every_frames and crossed(module, self.every_frames):
            self.play(trainer, module)

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Play at a milestone of the FLOP budget."""
        if self.at_milestones:
            self.play(trainer, module)

    def at_milestone(self) -> dict[str, float]:
        """The latest rollout's metrics, for the table of milestones."""
        return metrics_of(self.last_summary) if self.at_milestones and self.last_summary else {}

    def play(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play, keep the table and log the summary, once for the same weights."""
        module = run_module(pl_module)
        if self._played_at == module.frames:
            return
        self._played_at = module.frames
        mine = self.seeds[trainer.global_rank :: trainer.world_size]
        policy = evaluated(trainer, module)
        game = self.played_game(policy)
        traces: Traces | None = {} if self.replays else None
        table = play(
            policy,
            mine,
            self.how,
            game=game,
            workers=self.workers,
            lanes=self.lanes,
            cores=own_cores(),
            device=pl_module.device,
            traces=traces,
        )
        table = _gather(table, trainer.world_size)
        self.last_table, self.last_summary = table, summarise(table)
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "rollouts" / f"{module.frames}.parquet"
            for written in write_tables(table, path):
                log_file(trainer, written, "rollouts")
        log_metrics(trainer, module, metrics_of(self.last_summary))
        if traces is not None:
            self._keep_replays(trainer, table, traces, game)
        give_back_memory()

    def _keep_replays(
        self, trainer: Trainer, table: pd.DataFrame, traces: Traces, game: Description
    ) -> None:
        chosen = _gather_chosen(table, traces, trainer.world_size)
        if trainer.is_global_zero:
            name = f"replays/{self._played_at}"
            folder = Path(trainer.default_root_dir) / name
            for path in write_replays(table, chosen, folder, True, game):
                log_file(trainer, path, name)


def metrics_of(summary: dict[str, Any]) -> dict[str, float]:
    """Return metrics of a summary: ``rollout/return_mean``, ``rollout/return_mean/Val``, …"""
    metrics: dict[str, float] = {"rollout/crashed": float(summary["crashed"])}
    for column, name in NAMES.items():
        if column in summary:
            metrics[f"rollout/{name}_mean"] = summary[column]["mean"]
    if "solved" in summary:
        metrics["rollout/solved"] = summary["solved"]
    if "return" in summary:
        metrics["rollout/return_median"] = summary["return"]["median"]
    for column in ("return", "progression"):
        if column in summary and summary[column]["se"] is not None:
            metrics[f"rollout/{column}_se"] = summary[column]["se"]
    for role, entry in summary["roles"].items():
        metrics[f"rollout/return_mean/{role}"] = entry["return"]["mean"]
    return metrics


def _gather(table: pd.DataFrame, ranks: int) -> pd.DataFrame:
    """Return the rows of all ranks, by seed."""
    if ranks == 1:
        return table
    parts = gathered(table.to_dict("records"))
    rows = sorted((row for part in parts for row in part), key=lambda row: int(row["seed"]))
    return pd.DataFrame(rows, columns=table.columns)


def _gather_chosen(table: pd.DataFrame, traces: Traces, ranks: int) -> Traces:
    """Return the traces of the episodes that get a replay, from the ranks that played them."""
    seeds = set(chosen_episodes(table, True).values())
    mine = {seed: trace for seed, trace in traces.items() if seed in seeds}
    return {seed: trace for part in gathered(mine) for seed, trace in part.items()}
