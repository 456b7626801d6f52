"""A policy that plays one game frame by frame, and keeps its memory between calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent_scaling.envs.families import find_game
from agent_scaling.playing.actor import Actor
from agent_scaling.playing.sampling import Sampling
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError

LANE = np.zeros(1, np.int64)
"""The number of the only lane."""


class Agent:
    """A policy that acts in an environment, with its memory of the episode.

    The policy is copied and runs in evaluation mode. Actions are drawn with noise that is a
    function of ``seed``, the episode and the step: the same frames give the same actions.

    Args:
        policy: The policy that plays.
        sampling: ``softmax``, ``argmax``, ``top_k`` or ``top_p``.
        temperature: Divides the logits before sampling.
        top_k: Actions that ``top_k`` keeps.
        top_p: Probability mass that ``top_p`` keeps.
        seed: Seed of the sampling noise.
        device: The device of the policy, by torch's name.

    Raises:
        InputError: A sampling option is out of its range.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        sampling: str = "softmax",
        temperature: float = 1.0,
        top_k: int = 10,
        top_p: float = 0.95,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.num_actions, self._shown = policy.num_actions, policy.observations
        self._sampling = Sampling(sampling, temperature, top_k, top_p)
        self._actor = Actor(
            policy, 1, sampling=self._sampling, sampling_seed=seed, block=1, device=device
        )
        self._logits_NA = np.zeros((1, policy.num_actions), np.float32)
        self._actor.logits = self._logits_NA
        known: dict[str, tuple[tuple[int, ...], str]] = {}
        known.update(find_game(policy.game.family).observations)
        self._formats = {name: known[name] for name in self._shown}
        self.reset()

    def reset(self, episode: int = 0) -> None:
        """Forget the episode; the next frame is the first of another.

        Args:
            episode: The new episode's number, which determines its noise.
        """
        self._actor.restart(0, episode)

    def act(self, observation: Mapping[str, Any]) -> int:
        """Return the action for the next frame of the episode.

        Args:
            observation: The game's arrays, by NLE's names (``tty_chars`` [24, 80],
                ``tty_colors`` [24, 80], ``tty_cursor`` [2]; ``inv_glyphs`` [55] where the policy
                reads it) or ours without ``tty_``; for Atari ``frame`` [84, 84], grey. Other
                entries are ignored.

        Returns:
            The index of the action in the action set of the policy's game; NetHack's is
            ``nle.nethack.ACTIONS``.

        Raises:
            InputError: An array is missing or has another shape.
        """
        lanes = {name: self._array(observation, name)[None] for name in self._shown}
        return int(self._actor.act(lanes, LANE)[0])

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """[A]: the distribution of the latest action; uniform before the first."""
        found: npt.NDArray[np.float64] = self._sampling.probabilities(self._logits_NA)[0]
        return found

    def _array(self, observation: Mapping[str, Any], name: str) -> npt.NDArray[Any]:
        # NLE's own `chars` is another array, of the map alone.
        named = next((n for n in (f"tty_{name}", name) if n in observation), None)
        if named is None:
            raise InputError(
                f"the policy reads {name!r}, which the observation lacks; it has "
                f"{', '.join(map(str, observation))}"
            )
        shape, dtype = self._formats[name]
        array = np.asarray(observation[named])
        if array.shape != shape:
            raise InputError(f"observation {named!r} has the shape {array.shape}, needed: {shape}")
        return array.astype(dtype, copy=False)


def load_agent(path: str | Path, **options: Any) -> Agent:
    """Load the agent of a checkpoint.

    Args:
        path: A checkpoint of ``agent-scaling train`` or ``import``, or of :func:`save_policy`.
        options: Arguments of :class:`Agent`, e.g. ``sampling="argmax"``.

    Raises:
        InputError: The file cannot be read or holds no policy, or an option is out of its range.
    """
    return Agent(load_policy(path), **options)
