"""Encodes a recorded game as compressed chunks, and marks the frames that are decisions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from agent_scaling.data.recordings.base import (
    EDGE_FRAMES,
    MENU_FRAMES,
    BadGame,
    Game,
    RawFrames,
    Source,
    concatenate,
)
from agent_scaling.data.shards import codec
from agent_scaling.data.shards.layout import ABSENT, Layout

UnknownKeys = Literal["skip", "mask"]


@dataclass(frozen=True)
class EncodedGame:
    """A converted game: its compressed chunks (about 18 bytes per frame) and its counts."""

    game: Game
    frames: int
    actions: int
    unknown_keys: int
    decisions: tuple[int, int]
    chunks: tuple[bytes, ...]


class _Encoder:
    """Encoder of one game, chunk by chunk."""

    def __init__(self, game: Game, layout: Layout, level: int, unknown_keys: UnknownKeys) -> None:
        self.game, self.layout, self.unknown_keys = game, layout, unknown_keys
        self.zstd = codec.compressor(level)
        self.chunks: list[bytes] = []
        self.frames = self.actions = self.unknown = self.previous_key = 0

    def add(self, raw: RawFrames, begin: int, end: int) -> None:
        """Encode the game's next frames; its decisions are frames [begin, end) of the game."""
        decision = np.zeros(len(raw), np.uint8)
        decision[max(0, begin - self.frames) : max(0, end - self.frames)] = 1
        unknown = (decision == 1) & (self.layout.action_of_key[raw.key] == ABSENT)
        if unknown.any() and self.unknown_keys == "skip":
            at = int(unknown.argmax())
            raise BadGame(
                f"frame {self.frames + at} was answered with key {raw.key[at]}, which is not in "
                "the action set (unknown_keys=mask keeps the game)"
            )
        frames = codec.Frames(
            shown=raw.shown,
            key=raw.key,
            decision=decision,
            score=raw.score,
            previous_key=self.previous_key,
        )
        self.chunks.append(codec.encode(frames, self.zstd, self.layout))
        self.frames += len(raw)
        self.actions += int(decision.sum()) - int(unknown.sum())
        self.unknown += int(unknown.sum())
        self.previous_key = int(raw.key[-1])


def encode_game(
    source: Source,
    root: Path,
    game: Game,
    *,
    layout: Layout,
    chunk_frames: int,
    level: int,
    unknown_keys: UnknownKeys,
    actions: bool = True,
) -> EncodedGame:
    """Decode a recording and encode it in chunks of ``chunk_frames`` frames.

    ``actions=False`` drops the keys. With ``unknown_keys="mask"``, frames whose key is outside the
    action set carry no target.

    Raises:
        BadGame: The recording is broken, or ``unknown_keys`` is ``"skip"`` and a key is outside the
            action set.
    """
    encoder = _Encoder(game, layout, level, unknown_keys)
    keyed = actions and game.version >= 2
    begin = menus = 0
    # The source finds a game's end in its last frames, so the newest frames are held back.
    held: deque[RawFrames] = deque()
    for raw in source.decode(root, game, chunk_frames):
        if not actions:
            raw.key = np.zeros_like(raw.key)
        if keyed and not held and not encoder.frames:
            begin = source.opening(game, raw)
        held.append(raw)
        menus += raw.menus
        while sum(map(len, held)) - len(held[0]) >= EDGE_FRAMES:
            first = held.popleft()
            encoder.add(first, begin, encoder.frames + len(first) if keyed else 0)
    total = encoder.frames + sum(map(len, held))
    if not total:
        raise BadGame("it holds no frames")
    end = max(begin, total - source.closing(game, _joined(held))) if keyed else 0
    for raw in held:
        encoder.add(raw, begin, end)
    if menus:
        game = replace(game, metadata={**game.metadata, MENU_FRAMES: menus})
    return EncodedGame(
        game=game,
        frames=total,
        actions=encoder.actions,
        unknown_keys=encoder.unknown,
        decisions=(begin, end),
        chunks=tuple(encoder.chunks),
    )


def _joined(held: deque[RawFrames]) -> RawFrames:
    """Join the last frames of the held chunks, EDGE_FRAMES at most so as to copy little."""
    return concatenate(list(held)[-EDGE_FRAMES:])[-EDGE_FRAMES:]
