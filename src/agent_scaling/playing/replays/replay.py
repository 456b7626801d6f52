"""Plays episodes again from their actions, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt

from agent_scaling.envs.families import Description
from agent_scaling.envs.pool.pool import Pool

Frame = dict[str, npt.NDArray[Any]]
"""The observations of a frame, by name."""


def replayed(
    game: Description,
    seed: int,
    actions: Sequence[int] | npt.NDArray[Any],
    observations: Sequence[str],
) -> Iterator[Frame]:
    """Yield the frame before each action of the episode; arrays are reused between frames.

    An episode is a function of its seed and its actions, so a worker that is lost costs only time.

    Args:
        game: The game that was played.
        seed: Seed of the episode.
        actions: All actions of the episode.
        observations: Names of the observations in a frame.
    """
    with Pool(
        game.family,
        lanes=1,
        workers=1,
        groups=1,
        options=dict(game.options),
        observations=observations,
    ) as pool:
        pool.assign(0, seed)
        frame = {name: array[0] for name, array in pool.observations.items()}
        step = shown = 0
        while shown < len(actions):
            pool.send(0)
            report = pool.receive(0)
            if report.ended:
                raise RuntimeError(f"episode {seed} went another way when it was played again")
            step = 0 if report.restarted else step
            if not len(pool.ready(0)):
                continue  # a new worker has not begun the episode yet
            if step == shown:
                yield frame
                shown += 1
            pool.actions[0] = actions[step]
            step += 1
