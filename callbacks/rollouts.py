"""Rollouts: the policy in training plays the game, every k frames and at each milestone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer

from agent_scaling.envs.nethack import character_options
from agent_scaling.episodes import summarise, write_table
from agent_scaling.errors import InputError
from agent_scaling.play import NETHACK, Traces, play
from agent_scaling.replay import chosen_episodes, write_replays
from agent_scaling.sampling import Sampling
from agent_scaling.tracking import log_file, log_metrics
from callbacks.ema import evaluated
from callbacks.held_out import crossed

NAMES = {
    "return": "return",
    "steps": "length",
    "turns": "turns",
    "max_depth": "depth",
    "level": "level",
}
"""Column of the table → its name among the metrics."""


class Rollouts(Callback):
    """Plays the same ``episodes`` seeds each time, with batched inference; logs ``rollout/…``.

    Training is not disturbed: a copy of the policy plays, with noise of its own. Each table is kept
    as ``<output>/rollouts/<frames>.parquet``. Under DDP each rank plays its share of the seeds.

    The best, the median and the worst episode are kept as ``<output>/replays/<frames>/best.html``
    and ``.cast``, and so on; to choose them afterwards, each rank keeps 18 bytes of every step.

    Args:
        episodes: Episodes each time.
        every_frames: Frames of training between rollouts, all ranks; ``None``: never.
        at_milestones: Whether to play at each milestone of the FLOP budget, and at its end.
        max_episode_steps: Step cap of an episode.
        workers: Game processes; ``None``: one per core.
        lanes: Games at the same time; ``None``: a block per core.
        seed: Seed of the first episode.
        sampling: ``softmax``, ``argmax``, ``top_k`` or ``top_p``.
        temperature: Divides the logits.
        top_k: Actions that ``top_k`` keeps.
        top_p: Probability mass that ``top_p`` keeps.
        sampling_seed: Seed of the sampling noise.
        character: ``role-race-gender-alignment``, parts of it, or ``@`` for a random one.
        replays: Whether to keep replays, of NetHack.
        game: Import path of another game to play than the one that the policy was trained on.
        game_options: Its keyword arguments, instead of ``character`` and ``max_episode_steps``.

    Raises:
        InputError: An option is out of its range, or replays are asked for of another game.
    """

    def __init__(
        self,
        episodes: int = 20,
        every_frames: int | None = None,
        at_milestones: bool = True,
        max_episode_steps: int = 100_000,
        workers: int | None = None,
        lanes: int | None = None,
        seed: int = 0,
        sampling: str = "softmax",
        temperature: float = 1.0,
        top_k: int = 10,
        top_p: float = 0.95,
        sampling_seed: int = 0,
        character: str = "@",
        replays: bool = True,
        game: str | None = None,
        game_options: dict[str, Any] | None = None,
    ) -> None:
        character_options(character)
        if replays and game not in (None, NETHACK):
            raise InputError(f"callbacks.rollouts.replays: not of {game}; set it to false")
        self.seeds = range(seed, seed + episodes)
        self.every_frames, self.at_milestones = every_frames, at_milestones
        self.replays = replays
        self.options: dict[str, Any] = {
            "sampling": Sampling(sampling, temperature, top_k, top_p),
            "sampling_seed": sampling_seed,
            "character": character,
            "max_episode_steps": max_episode_steps,
            "workers": workers,
            "lanes": lanes,
            "game": game,
            "game_options": game_options,
        }
        self.last_summary: dict[str, Any] = {}
        """What :func:`~agent_scaling.episodes.summarise` says of the latest rollout."""
        self.last_table: pd.DataFrame | None = None
        self._played_at = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Play where a multiple of ``every_frames`` was crossed."""
        if self.every_frames and crossed(pl_module, self.every_frames):
            self.play(trainer, pl_module)

    def on_milestone(self, trainer: Trainer, pl_module: LightningModule, flops: float) -> None:
        """Play at a milestone of the FLOP budget."""
        if self.at_milestones:
            self.play(trainer, pl_module)

    def at_milestone(self) -> dict[str, float]:
        """The latest rollout's metrics, for the table of milestones."""
        return self._metrics() if self.at_milestones and self.last_summary else {}

    def play(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play, keep the table, log the summary; once for the same weights."""
        module: Any = pl_module
        if self._played_at == module.frames:
            return
        self._played_at = module.frames
        mine = self.seeds[trainer.global_rank :: trainer.world_size]
        policy = evaluated(trainer, module)
        traces: Traces | None = {} if self.replays and not policy.game else None
        table = play(policy, mine, device=pl_module.device, traces=traces, **self.options)
        table = _gather(table, trainer.world_size)
        self.last_table, self.last_summary = table, summarise(table)
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "rollouts" / f"{module.frames}.parquet"
            write_table(table, path)
            log_file(trainer, path, "rollouts")
        log_metrics(trainer, module, self._metrics())
        if traces is not None:
            self._keep_replays(trainer, table, traces, str(module.frames))

    def _metrics(self) -> dict[str, float]:
        found = metrics_of(self.last_summary)
        if self.options["game"] not in (None, NETHACK):  # which is never solved
            solved = self.last_summary["ends"].get("solved", 0)
            found["rollout/solved"] = solved / self.last_summary["episodes"]
        return found

    def _keep_replays(
        self, trainer: Trainer, table: pd.DataFrame, traces: Traces, name: str
    ) -> None:
        chosen = _gather_chosen(table, traces, trainer.world_size)
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "replays" / name
            game = self.options["game_options"]
            if game is None:
                game = {key: self.options[key] for key in ("character", "max_episode_steps")}
            for path in write_replays(table, chosen, folder, True, **game):
                log_file(trainer, path, f"replays/{name}")


def metrics_of(summary: dict[str, Any]) -> dict[str, float]:
    """``rollout/return_mean``, ``rollout/return_mean/Val``, … from a summary."""
    metrics: dict[str, float] = {"rollout/crashed": float(summary["crashed"])}
    for column, name in NAMES.items():
        if column in summary:
            metrics[f"rollout/{name}_mean"] = summary[column]["mean"]
    if "return" in summary:
        metrics["rollout/return_median"] = summary["return"]["median"]
        if summary["return"]["se"] is not None:
            metrics["rollout/return_se"] = summary["return"]["se"]
    for role, entry in summary["roles"].items():
        metrics[f"rollout/return_mean/{role}"] = entry["return"]["mean"]
    return metrics


def _gather(table: pd.DataFrame, ranks: int) -> pd.DataFrame:
    """The rows of all ranks, by seed."""
    if ranks == 1:
        return table
    parts: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(parts, table.to_dict("records"))
    rows = sorted((row for part in parts for row in part), key=lambda row: int(row["seed"]))
    return pd.DataFrame(rows, columns=table.columns)


def _gather_chosen(table: pd.DataFrame, traces: Traces, ranks: int) -> Traces:
    """The traces of the episodes that get a replay, from the ranks that played them."""
    seeds = set(chosen_episodes(table, True).values())
    mine = {seed: trace for seed, trace in traces.items() if seed in seeds}
    if ranks == 1:
        return mine
    parts: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(parts, mine)
    return {seed: trace for part in parts for seed, trace in part.items()}
