"""Labels each frame of a game with the key that most probably led to the next frame."""

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
"""For n frames: actions uint8 [n], and their probabilities in 255ths, uint8 [n]."""


@dataclass(frozen=True)
class GameLabeller:
    """Labels a game's frames in order, window by window, as the model was trained.

    The state of the past crosses windows. Each window also sees ``lookahead`` frames of the next.
    """

    policy: Policy
    """The inverse-dynamics model, in evaluation mode."""
    lookahead: int
    window: int
    """Frames per forward pass."""
    level: int
    """zstd compression level of the written chunks."""

    def chunks(self, reader: ShardReader, game: int) -> Iterator[bytes]:
        """Yield the game's encoded chunks with labels in place of keys.

        The game's last frame gets no label, because no frame follows it.
        """
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
        """Label a chunk's frames; also return the policy's state after them.

        Args:
            frames: The chunk.
            following: The game's next chunk; None at the game's end.
            state: The policy's state before the chunk.
            opens: True where the chunk is the game's first.
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
            # A label weighs at least 1/255: 0 marks a frame without a label.
            in_255ths = (255 * best.values).round().clamp(1, 255)
            probabilities.append(in_255ths.byte().cpu().numpy())
        return (np.concatenate(actions), np.concatenate(probabilities)), state


def as_batch(
    shown: dict[str, npt.NDArray[Any]], begin: int, end: int, lookahead: int, opens: bool
) -> Batch:
    """A batch of one game's frames [begin, end) and up to ``lookahead`` frames after them."""
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
