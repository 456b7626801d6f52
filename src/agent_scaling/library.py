"""What a program of its own needs: a policy, batches of shards, episodes; no Trainer, no files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose
from hydra.utils import instantiate

from agent_scaling.actor import RandomPolicy
from agent_scaling.batch import Batch
from agent_scaling.errors import InputError
from agent_scaling.overrides import UNTAKEN, explain
from agent_scaling.play import play
from agent_scaling.play_options import PlayOptions
from agent_scaling.policy import Policy
from agent_scaling.rollout import find_policy
from agent_scaling.shards.lanes import EvalLanes, TrainLanes
from agent_scaling.shards.loader import WindowLoader
from agent_scaling.shards.reader import ShardReader
from agent_scaling.studies.experiments import hydra


def make_policy(*overrides: str) -> Policy:
    """A policy with fresh weights, described as on the command line.

    Args:
        overrides: E.g. ``"policy/core=transformer"``, ``"policy.params=1_000_000"``; none: the
            paper's network.

    Raises:
        InputError: There is no such key or option, or no such size.
    """
    try:
        with hydra():
            cfg = compose("flops", list(overrides))
        policy: Policy = instantiate(cfg.policy)
    except UNTAKEN as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"make_policy: {explain(error, 'flops')}") from error
    return policy


def read_batches(
    shards: str | Path,
    split: str = "train",
    *,
    lanes: int = 32,
    steps: int = 80,
    seed: int = 0,
    max_frames: int | None = None,
    workers: int = 1,
    scores: bool = False,
    games: bool = False,
) -> Iterable[Batch]:
    """Windows of consecutive frames of recorded games, in the order that training has them.

    A batch's frames follow those of the batch before, lane by lane: a recurrent policy's state is
    carried on, and reset where ``first_TB`` says so.

    Args:
        shards: A folder that ``agent-scaling shard`` wrote, or its URL.
        split: ``train``: without end, each epoch in an order of its own; ``val``: one pass over
            the held-out games.
        lanes: B, games that are followed at the same time.
        steps: T, frames of each lane in a batch.
        seed: Of the order of the games; ``train``'s.
        max_frames: At most so many frames, evenly spaced; ``val``'s.
        workers: Background threads; 0 reads when asked to. Does not change the data.
        scores: Give ``score_TB``.
        games: Give ``game_TB``.

    Returns:
        To be iterated over, again and again: each time from the beginning.

    Raises:
        InputError: The shards are missing or broken, there is no such split, or they have fewer
            frames than ``lanes``.
    """
    if split not in ("train", "val"):
        raise InputError(f"split={split!r}: use train or val")
    reader = ShardReader(shards, split)
    frames, shown = [game.frames for game in reader.games], {"scores": scores, "games": games}
    if split == "val":
        order = EvalLanes(frames, lanes, max_frames)
        end = order.steps(steps)
        return WindowLoader(
            reader, order, range(lanes), steps, end_step=end, workers=workers, **shown
        )
    endless = TrainLanes([game.id for game in reader.games], frames, lanes, seed)
    return WindowLoader(reader, endless, range(lanes), steps, workers=workers, **shown)


def play_episodes(
    policy: Policy | RandomPolicy | str | Path,
    episodes: int = 20,
    *,
    workers: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> pd.DataFrame:
    """Play whole episodes of the policy's game, many at a time, as ``agent-scaling rollout`` does.

    Args:
        policy: A policy, or a checkpoint; ``"random"`` for uniformly random actions in NetHack.
        episodes: How many: seeds ``seed`` … ``seed + episodes − 1``.
        workers: Game processes; None: one per core.
        device: Where the policy runs, as torch calls it.
        options: ``seed``, ``sampling``, ``temperature``, ``max_episode_steps``, ``character``, …:
            the fields of :class:`~agent_scaling.play_options.PlayOptions`.

    Returns:
        A row per episode: return, steps, how it ended, … (``docs/rollouts.md``); the same for any
        number of workers.

    Raises:
        InputError: The checkpoint cannot be read, or an option is unknown or out of its range.
    """
    if unknown := options.keys() - PlayOptions.__dataclass_fields__.keys():
        known = ", ".join(PlayOptions.__dataclass_fields__)
        raise InputError(
            f"play_episodes: no option {', '.join(sorted(unknown))}; there are {known}"
        )
    how = PlayOptions(**options)
    player: Policy | RandomPolicy
    player = find_policy(str(policy), None, None, {}) if isinstance(policy, str | Path) else policy
    return play(
        player,
        range(how.seed, how.seed + episodes),
        sampling=how.drawing,
        sampling_seed=how.sampling_seed,
        workers=workers,
        block=how.block,
        device=device,
        **how.rules,
    )
