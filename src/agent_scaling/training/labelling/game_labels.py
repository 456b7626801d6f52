"""A game's frames → the keys that a model takes to have turned each into the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agent_scaling.data.batch import Batch, shown_fields
from agent_scaling.data.shards import codec
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.policies.policy import Policy, State

Labels = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Of n frames: actions [n], and their probabilities in 255ths [n]."""


@dataclass(frozen=True)
class GameLabeller:
    """Reads a game in order, a window at a time, as the model was trained to.

    The past's state crosses windows, and each window has ``lookahead`` frames of the next.
    """

    policy: Policy
    """In evaluation mode."""
    lookahead: int
    window: int
    """Frames that are computed at a time."""
    level: int
    """zstd's, of the chunks that are written."""

    def chunks(self, reader: ShardReader, game: int) -> Iterator[bytes]:
        """The game's chunks with labels for keys. The last frame gets none: nothing follows."""
        layout = replace(reader.layout, labelled=True)
        zstd, keys = codec.compressor(self.level), np.array(layout.keys, np.uint8)
        state, previous_key = self.policy.initial_state(1), 0
        count = -(-reader.games[game].frames // reader.chunk_frames)
        chunks = (reader.frames(game, number) for number in range(count))
        for number, (frames, following) in enumerate(pairwise(chain(chunks, [None]))):
            assert frames is not None
            (action, probability), state = self.label(frames, following, state, number == 0)
            decision = np.ones(len(frames), np.uint8)
            if following is None:
                decision[-1] = probability[-1] = 0
            frames.key[:] = np.where(decision, keys[action], 0)
            labelled = replace(
                frames, decision=decision, previous_key=previous_key, probability=probability
            )
            yield codec.encode(labelled, zstd, layout)
            previous_key = int(frames.key[-1])

    @torch.no_grad()
    def label(
        self, frames: codec.Frames, following: codec.Frames | None, state: State, opens: bool
    ) -> tuple[Labels, State]:
        """Labels of a chunk's frames, and the state after them.

        Args:
            frames: The chunk.
            following: The game's next one; None at its end.
            state: The policy's before the chunk.
            opens: Whether the chunk is the game's first.
        """
        shown = frames.shown
        if following is not None:
            head = {name: array[: self.lookahead] for name, array in following.shown.items()}
            shown = {name: np.concatenate([shown[name], head[name]]) for name in shown}
        actions, probabilities = [], []
        for begin in range(0, len(frames), self.window):
            end = min(begin + self.window, len(frames))
            batch = as_batch(shown, begin, end, self.lookahead, opens and begin == 0)
            device = next(self.policy.parameters()).device
            logits_TBA, _, state = self.policy(batch.to(device), state)
            best = logits_TBA[: end - begin, 0].float().softmax(-1).max(-1)
            actions.append(best.indices.byte().cpu().numpy())
            # A label always has some weight: 0 stands for a frame that has none.
            in_255ths = (255 * best.values).round().clamp(1, 255)
            probabilities.append(in_255ths.byte().cpu().numpy())
        return (np.concatenate(actions), np.concatenate(probabilities)), state


def as_batch(
    shown: dict[str, npt.NDArray[Any]], begin: int, end: int, lookahead: int, opens: bool
) -> Batch:
    """Frames [begin, end) of one game and, as far as there are any, ``lookahead`` more."""
    part = {name: array[begin : end + lookahead, None] for name, array in shown.items()}
    steps = len(next(iter(part.values())))
    first_TB = torch.zeros(steps, 1, dtype=torch.bool)
    first_TB[0] = opens
    return Batch(
        **shown_fields({name: torch.from_numpy(array) for name, array in part.items()}),
        prev_action_TB=torch.zeros(steps, 1, dtype=torch.int64),
        action_TB=torch.full((steps, 1), NO_ACTION),
        first_TB=first_TB,
        ahead=steps - (end - begin),
        openings=(0,) if opens else (),
    )
