"""The library's reader of recorded games as batches, for programs without a Trainer."""

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
    """Read windows of consecutive frames of recorded games, in training's order.

    A batch's frames follow those of the batch before, lane by lane. A recurrent policy's state is
    passed on from batch to batch, and reset where ``first_TB`` is True.

    Args:
        shards: A folder that ``agent-scaling shard`` wrote, or its URL.
        split: ``train``: endless, each epoch in an order of its own; ``val``: one pass over the
            held-out games.
        lanes: B, the number of games read in parallel.
        steps: T, frames of each lane in a batch.
        seed: Seed of the order of the games; ``train`` only.
        max_frames: Largest number of frames, evenly spaced; ``val`` only.
        workers: Background threads; 0 reads on demand. The data do not depend on it.
        scores: Include ``score_TB``.
        games: Include ``game_TB``.

    Returns:
        An iterable of batches; each iteration starts from the beginning.

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
