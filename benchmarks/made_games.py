"""Games that nobody played, for machines without NetHack: recordings to convert, and unrolls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent_scaling.data.recordings.base import Discovery, Game, RawFrames, Source
from agent_scaling.envs.actions import KEYS

if TYPE_CHECKING:  # processes that decode games import this file, and need no torch
    from agent_scaling.data.batch import Batch
    from agent_scaling.policies.policy import Policy

ROWS, COLUMNS = 24, 80
FLOOR, WALL, HERO = ord("."), ord("#"), ord("@")


class MadeGames(Source):
    """Dungeons in which a hero walks at random: screens that change as little as NetHack's do.

    Args:
        games: Number of games.
        frames: Of each.
    """

    name = "made"

    def __init__(self, games: int, frames: int) -> None:
        self.games, self.frames = games, frames

    def discover(self, root: Path) -> Discovery:
        names = (f"made/{number:04d}" for number in range(self.games))
        return Discovery(tuple(Game(name, (name,), (self.frames,), 3) for name in names), ())

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        whole = made_frames(int(game.identity[-4:]), self.frames)
        for begin in range(0, self.frames, chunk_frames):
            yield whole[begin : begin + chunk_frames]

    def opening(self, game: Game, head: RawFrames) -> int:
        return 0

    def closing(self, game: Game, tail: RawFrames) -> int:
        return 1


def made_frames(seed: int, frames: int) -> RawFrames:
    """The frames of a game: a map that stays, a hero who moves, a message now and then, a clock."""
    draw = np.random.default_rng(seed)
    screen = np.full((ROWS, COLUMNS), ord(" "), np.uint8)
    inside = draw.random((ROWS, COLUMNS)) < 0.4
    inside[[0, -2, -1]] = False
    screen[inside] = draw.choice([FLOOR, FLOOR, FLOOR, WALL], inside.sum())
    chars = np.repeat(screen[None], frames, axis=0)
    step = np.arange(frames)
    cursor = np.empty((frames, 2), np.uint8)
    for axis, (low, high) in enumerate([(1, ROWS - 3), (0, COLUMNS - 1)]):
        walk = np.cumsum(draw.integers(-1, 2, frames)) + (low + high) // 2
        cursor[:, axis] = np.clip(walk, low, high)
    chars[step, cursor[:, 0], cursor[:, 1]] = HERO
    texts = draw.integers(97, 123, (8, 40)).astype(np.uint8)
    shown = draw.random(frames) < 0.2
    chars[shown, 0, :40] = texts[draw.integers(0, 8, shown.sum())]
    for place in range(5):
        chars[:, -1, 10 + place] = ord("0") + step // 10**place % 10
    colors = np.where(chars == HERO, 15, np.where(chars == WALL, 3, 7)).astype(np.int8)
    key = draw.choice(np.array(KEYS[:8], np.uint8), frames)
    return RawFrames(
        {"chars": chars, "colors": colors, "cursor": cursor}, key, (step // 50).astype(np.int32)
    )


def made_unroll(policy: Policy, steps: int, lanes: int, seed: int) -> Batch:
    """An unroll of ``steps`` actions, as actors hand it over."""
    import torch

    from agent_scaling.data.batch import FIELDS, Played, blank_batch

    g = torch.Generator().manual_seed(seed)
    unroll = blank_batch(steps + 1, lanes)
    unroll.frame_TBHW = unroll.inv_glyphs_TBI = None
    played = [made_frames(seed + lane, steps + 1) for lane in range(lanes)]
    for name in ("chars", "colors", "cursor"):
        planes = np.stack([game.shown[name] for game in played], axis=1)
        setattr(unroll, FIELDS[name], torch.from_numpy(planes))
    shape = (steps + 1, lanes)
    unroll.action_TB = torch.randint(0, policy.num_actions, shape, generator=g)
    unroll.action_TB[-1] = -100
    unroll.reward_TB = torch.randn(shape, generator=g)
    unroll.behaviour_logits_TBA = torch.zeros(*shape, policy.num_actions)
    unroll.openings = ()
    state = tuple(torch.zeros_like(part, device="cpu") for part in policy.initial_state(lanes))
    unroll.played = Played(state=state, updates=0, episodes=[])
    return unroll


class Repeated:
    """These batches, again and again.

    Args:
        batches: The batches.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        """A length that no run reaches; without one, Lightning fetches the next batch early."""
        return 10**9

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.batches
