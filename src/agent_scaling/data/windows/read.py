"""Batches of recorded games for a program of its own, without a Trainer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import EvalLanes, TrainLanes
from agent_scaling.runtime.errors import InputError


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
