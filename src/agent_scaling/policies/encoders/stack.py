"""Frame stacking at read time: recordings hold each frame once, and an encoder sees the last k."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch


class FrameStack:
    """The last ``frames`` frames of one plane, from the lane's current game alone.

    Frames before a game's first are blank. What the next window needs of this one, the last
    ``frames`` − 1 frames, is the stack's state; a window that is cut in two gives the same.

    Args:
        frames: Frames k that are seen, the current one included.
        shape: Of a lane's frame, as far as it is stacked.
        dtype: Of the plane.
        blank: Value of a blank frame.
    """

    def __init__(
        self, frames: int, shape: tuple[int, ...], dtype: torch.dtype, blank: int = 0
    ) -> None:
        self.frames, self.shape, self.dtype, self.blank = frames, shape, dtype, blank

    def initial_state(self, lanes: int, device: torch.device) -> Tensor:
        """Blank frames, [k − 1, lanes, *shape]."""
        shape = (self.frames - 1, lanes, *self.shape)
        return torch.full(shape, self.blank, dtype=self.dtype, device=device)

    def __call__(
        self, plane_TBX: Tensor, first_TB: Tensor, state: Tensor, ahead: int = 0
    ) -> tuple[Tensor, Tensor]:
        """[T, B, *shape] and the frames before → [T, B, *shape, k], the newest last, and the state
        after the window, but for its ``ahead`` last frames."""
        steps, before = len(plane_TBX), self.frames - 1
        seen_SBX = torch.cat([state, plane_TBX])
        # The games of the window by number; what came before it belongs to number 0.
        game_TB = first_TB.long().cumsum(0)
        game_SB = torch.cat([game_TB.new_zeros(before, game_TB.shape[1]), game_TB])
        shifted = []
        for begin in range(self.frames):
            other_TB = game_SB[begin : begin + steps] != game_TB
            other_TBX = other_TB[(...,) + (None,) * len(self.shape)]
            shifted.append(seen_SBX[begin : begin + steps].masked_fill(other_TBX, self.blank))
        stacked_TBXK = torch.stack(shifted, dim=-1)
        if not before:
            return stacked_TBXK, state  # empty, as it was
        # The last frame's stack is already rid of earlier games; so the next window starts clean.
        return stacked_TBXK, stacked_TBXK[steps - 1 - ahead, ..., 1:].movedim(-1, 0)


def stack_planes(
    stacks: Sequence[FrameStack],
    planes_TBHW: Sequence[Tensor],
    batch: Batch,
    state: tuple[Tensor, ...],
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Planes → [N, H, W] or, with ``stacks``, [N, H, W, frames]; and the state after the window."""
    if not stacks:
        return [plane.flatten(0, 1) for plane in planes_TBHW], ()
    parts = zip(stacks, planes_TBHW, state, strict=True)
    pairs = [stack(plane, batch.first_TB, old, batch.ahead) for stack, plane, old in parts]
    return [seen.flatten(0, 1) for seen, _ in pairs], tuple(after for _, after in pairs)
