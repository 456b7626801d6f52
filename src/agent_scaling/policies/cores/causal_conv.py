"""A depthwise convolution over the last frames of a game, whose state crosses windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch

TAPS = 4  # frames that the causal convolution sees


def convolve(
    conv: nn.Conv1d, x_TBD: Tensor, batch: Batch, tail_BDK: Tensor
) -> tuple[Tensor, Tensor]:
    """Convolve a window with the inputs before it, ``TAPS`` − 1 of each lane.

    The window is cut where a game opens, as the LSTM's is: frames before count as zeros.

    Returns:
        The outputs [T, B, D] and the last ``TAPS`` − 1 inputs [B, D, 3].
    """
    x_BDT = x_TBD.permute(1, 2, 0)
    cuts = [t for t in batch.opening_steps() if t > 0]
    outputs: list[Tensor] = []
    for begin, end in zip([0, *cuts], [*cuts, batch.steps], strict=True):
        keep_B11 = ~batch.first_TB[begin][:, None, None]
        seen = torch.cat([tail_BDK * keep_B11, x_BDT[..., begin:end]], dim=-1)
        tail_BDK = seen[..., 1 - TAPS :]
        outputs.append(conv(seen))
    return torch.cat(outputs, dim=-1).permute(2, 0, 1), tail_BDK
