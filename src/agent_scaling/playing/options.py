"""Options of playing that ``rollout``, ``watch`` and the callback share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from agent_scaling.config.check import OPTIONS, Options
from agent_scaling.envs.nethack import character_options
from agent_scaling.playing.sampling import Sampling
from agent_scaling.runtime.errors import InputError

SEEDS = 2**62
"""Seeds are smaller: a table holds those of all episodes as 64-bit integers."""
Seed = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class PlayOptions(Options):
    """The options that determine an episode, together with the policy and the game.

    Raises:
        InputError: A value is of another type or out of its range, or there is no such option.
    """

    seed: Seed = 0
    """Seed of the first episode; the next ones follow."""
    sampling: str = "softmax"
    """``softmax``, ``argmax``, ``top_k`` or ``top_p``."""
    temperature: float = 1.0
    """Divides the logits before sampling."""
    top_k: Count = 10
    """Actions that ``top_k`` keeps."""
    top_p: float = 0.95
    """Probability mass that ``top_p`` keeps."""
    sampling_seed: Seed = 0
    """Seed of the sampling noise."""
    character: str | None = None
    """NetHack's ``role-race-gender-alignment``, parts of it, or ``@``; None: the game's own."""
    max_episode_steps: Count | None = None
    """Step cap of an episode; None: the game's own."""
    level_seed: Seed | None = None
    """Seed of level generation for all of NetHack's episodes; None: each has its own."""
    block: Count | None = None
    """Lanes per call of the policy; None: 16 on a CPU, 128 on a GPU."""

    def __post_init__(self) -> None:
        self.drawing  # noqa: B018  # it checks itself
        if self.character is not None:
            character_options(self.character)
        if max(self.seed, self.sampling_seed, self.level_seed or 0) >= SEEDS:
            raise InputError("seed=, sampling_seed= and level_seed= must be below 2**62")

    @property
    def drawing(self) -> Sampling:
        """The rule by which actions are drawn."""
        return Sampling(self.sampling, self.temperature, self.top_k, self.top_p)

    @property
    def rules(self) -> dict[str, Any]:
        """The game's options that are set."""
        rules = {
            "character": self.character,
            "max_episode_steps": self.max_episode_steps,
            "level_seed": self.level_seed,
        }
        return {name: value for name, value in rules.items() if value is not None}


def check_sizes(**sizes: int | None) -> None:
    """Check that counts are at least 1 or None; an :class:`InputError` names the first other."""
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise InputError(f"{name}={size}: must be at least 1, or null")
