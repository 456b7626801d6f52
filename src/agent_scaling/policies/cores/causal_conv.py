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
    if torch.compiler.is_compiling():  # a graph must not depend on where games open
        return convolve_masked(conv, x_TBD, batch.first_TB, tail_BDK)
    x_BDT = x_TBD.permute(1, 2, 0)
    cuts = [t for t in batch.opening_steps() if t > 0]
    outputs: list[Tensor] = []
    for begin, end in zip([0, *cuts], [*cuts, batch.steps], strict=True):
        keep_B11 = ~batch.first_TB[begin][:, None, None]
        seen = torch.cat([tail_BDK.to(x_BDT.dtype) * keep_B11, x_BDT[..., begin:end]], dim=-1)
        tail_BDK = seen[..., 1 - TAPS :]
        outputs.append(conv(seen))
    return torch.cat(outputs, dim=-1).permute(2, 0, 1), tail_BDK


def convolve_masked(
    conv: nn.Conv1d, x_TBD: Tensor, first_TB: Tensor, tail_BDK: Tensor
) -> tuple[Tensor, Tensor]:
    """The same without a cut, as a sum over taps that skips the frames of other games.

    Slower than the kernel, unless it is compiled: then it is one pass over the window.
    """
    steps, before = len(x_TBD), TAPS - 1
    seen_SBD = torch.cat([tail_BDK.permute(2, 0, 1).to(x_TBD.dtype), x_TBD])
    game_TB = first_TB.long().cumsum(0)  # what came before the window belongs to number 0
    game_SB = torch.cat([torch.zeros_like(game_TB[:1]).expand(before, -1), game_TB])
    assert conv.bias is not None
    y_TBD = conv.bias.to(x_TBD.dtype).expand_as(x_TBD)
    for tap in range(TAPS):
        same_TB = game_SB[tap : tap + steps] == game_TB
        weight_D = conv.weight[:, 0, tap].to(x_TBD.dtype)
        y_TBD = y_TBD + seen_SBD[tap : tap + steps] * same_TB[..., None] * weight_D
    same_KB = game_SB[-before:] == game_TB[-1]
    return y_TBD, (seen_SBD[-before:] * same_KB[..., None]).permute(1, 2, 0)
