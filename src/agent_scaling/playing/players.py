"""Players (a checkpoint, or uniformly random actions), and tables of their episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.families import NETHACK, Description, choose_game, count_actions
from agent_scaling.playing.options import PlayOptions
from agent_scaling.playing.play import play
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError


class RandomPolicy(nn.Module):
    """A baseline in a policy's place, to which all actions are equally probable."""

    observations: tuple[str, ...] = ()

    def __init__(self, num_actions: int = NUM_ACTIONS, game: Description = NETHACK) -> None:
        super().__init__()
        self.num_actions, self.game = num_actions, game

    def initial_state(self, lanes: int) -> tuple[Tensor, ...]:
        """Return an empty state, because there is nothing to remember."""
        return ()

    def forward(
        self, batch: Batch, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return zeros for logits and baseline."""
        shape, device = (batch.steps, batch.lanes), batch.first_TB.device
        logits_TBA = torch.zeros(*shape, self.num_actions, device=device)
        return logits_TBA, torch.zeros(shape, device=device), state


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
        episodes: Number of episodes, with the seeds ``seed`` … ``seed + episodes − 1``.
        workers: Game processes; None starts one per core.
        device: The device of the policy, by torch's name.
        options: ``seed``, ``sampling``, ``temperature``, ``max_episode_steps``, ``character``, …:
            the fields of :class:`~agent_scaling.playing.options.PlayOptions`.

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
        how,
        workers=workers,
        device=device,
    )


def find_policy(
    ckpt: str, game: str | None, env: str | None, options: Mapping[str, Any]
) -> Policy | RandomPolicy:
    """Find the policy of ``ckpt``; its ``game`` is set to the game to play, by default its own.

    Args:
        ckpt: A checkpoint, or ``random``.
        game: See :func:`~agent_scaling.envs.families.choose_game`, as for the next two.
        env: The game of the family.
        options: Options of the game; those that are None keep their value.

    Raises:
        InputError: There is no such checkpoint, game or option, or the policy has another number
            of actions.
    """
    if ckpt == "random":
        chosen = choose_game(None, game, env, options)
        return RandomPolicy(count_actions(chosen), chosen)
    policy = load_policy(ckpt)
    policy.check_causal(f"ckpt={ckpt}")
    policy.game = choose_game(policy.game, game, env, options)
    if (count := count_actions(policy.game)) != policy.num_actions:
        raise InputError(
            f"ckpt={ckpt}: a policy of {policy.num_actions} actions cannot play "
            f"{policy.game}, which has {count}"
        )
    return policy
