"""Episodes as they are played: each frame with the policy's odds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nle import nethack
from torch import nn

from agent_scaling.envs.families import NETHACK, Description, Record, find_game
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.playing.actor import SCREEN, Actor
from agent_scaling.playing.sampling import Sampling


@dataclass(frozen=True)
class Moment:
    """A frame of an episode."""

    seed: int
    step: int
    turn: int
    score: int
    """The in-game score that the frame shows."""
    gained: int
    """The episode's return so far: the score minus the first one."""
    chars_HW: npt.NDArray[np.uint8]
    colors_HW: npt.NDArray[np.int8]
    cursor: tuple[int, int]
    """The cursor's row and column."""
    thought: np.void | None
    """The action that is taken and its odds, a row of :data:`agent_scaling.playing.actor.TRACE`;
    None after the last step."""
    record: Record | None
    """The episode's record, after its last step."""
    actions: list[str]
    """Names of the game's actions."""


def live(
    policy: nn.Module,
    seed: int,
    *,
    sampling: Sampling | None = None,
    sampling_seed: int = 0,
    block: int | None = None,
    device: torch.device | str = "cpu",
    **rules: Any,
) -> Generator[Moment]:
    """Play the episodes of ``seed``, ``seed + 1``, … without an end, one frame at a time.

    They are the episodes that :func:`~agent_scaling.playing.play.play` plays with these arguments;
    its docstring explains them.
    """
    game: Description = getattr(policy, "game", NETHACK)
    actor = Actor(
        policy,
        1,
        sampling=sampling or Sampling(),
        sampling_seed=sampling_seed,
        block=block,
        device=device,
        trace=True,
    )
    options = {**game.options, **{k: v for k, v in rules.items() if v is not None}}
    family: Any = find_game(game.family)
    actions = family.action_names(**options)
    seen = sorted({*getattr(policy, "observations", SCREEN), *SCREEN, "blstats"})
    with Pool(
        game.family, lanes=1, workers=1, groups=1, options=options, observations=seen
    ) as pool:
        for episode in count(seed):
            yield from _episode(pool, actor, episode, actions)


def _episode(pool: Pool, actor: Actor, seed: int, actions: list[str]) -> Generator[Moment]:
    pool.assign(0, seed)
    actor.restart(0, seed)
    score = first = 0
    while True:
        pool.send(0)
        report = pool.receive(0)
        if report.restarted:
            actor.restart(0, seed)  # the worker was lost: the episode begins again
        step = int(actor.step[0])
        ended = report.ended[0][1] if report.ended else None
        if ended is None:
            if not len(pool.ready(0)):
                continue
            score = int(pool.observations["blstats"][0, nethack.NLE_BL_SCORE])
            first = score if step == 0 else first
            pool.actions[0] = actor.act(pool.observations, pool.ready(0))[0]
        shown = {name: array[0] for name, array in pool.observations.items()}
        yield Moment(
            seed=seed,
            step=step,
            turn=int(shown["blstats"][nethack.NLE_BL_TIME]),
            score=score,
            gained=score - first,
            chars_HW=shown["chars"].copy(),
            colors_HW=shown["colors"].copy(),
            cursor=(int(shown["cursor"][0]), int(shown["cursor"][1])),
            thought=actor.latest_thought(0) if ended is None else None,
            record=ended,
            actions=actions,
        )
        if ended is not None:
            return
