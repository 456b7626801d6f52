"""The paper's core: an LSTM whose state is zeroed where a game opens."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.cores.state import zero_state
from agent_scaling.policies.costs import LayerCost

State = tuple[Tensor, Tensor]


class LSTMCore(nn.Module):
    """LSTM over a window; its state crosses windows and is reset inside them.

    Args:
        input_width: Features per frame.
        width: Hidden size h.
        layers: Stacked layers.
    """

    recurrent = True
    eager = True

    def __init__(self, input_width: int, width: int = 512, layers: int = 1) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.lstm = nn.LSTM(input_width, width, num_layers=layers)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of a core of ``width`` for a policy of ``params`` parameters."""
        return {"width": width}

    def initial_state(self, lanes: int) -> State:
        """Zeros: (h, c), each [layers, lanes, width]."""
        zeros = zero_state(next(self.parameters()), self.layers, lanes, self.width)
        return zeros, zeros.clone()

    def forward(self, features_TBD: Tensor, batch: Batch, state: State) -> tuple[Tensor, State]:
        """[T, B, D] → [T, B, width] and the state after the window.

        The window is cut where a game opens in any lane and each piece is one call of the kernel,
        so that a window without an opening costs exactly one. It is cut where the next window
        begins, too: the state that crosses is the one from there. It has the precision of the state
        that is given; the kernel's own is that of the features.
        """
        given, own = state, batch.steps - batch.ahead
        state = after = (given[0].to(features_TBD.dtype), given[1].to(features_TBD.dtype))
        cuts = sorted({t for t in (*batch.opening_steps(), own) if 0 < t < batch.steps})
        outputs: list[Tensor] = []
        for begin, end in zip([0, *cuts], [*cuts, batch.steps], strict=True):
            keep_B1 = (~batch.first_TB[begin]).unsqueeze(-1).to(features_TBD.dtype)
            state = (state[0] * keep_B1, state[1] * keep_B1)
            output, state = run(self.lstm, features_TBD[begin:end], state)
            outputs.append(output)
            after = state if end == own else after
        kept = (after[0].to(given[0].dtype), after[1].to(given[1].dtype))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs), kept

    def costs(self) -> list[LayerCost]:
        """2·4·h·(in + h) per layer."""
        found = []
        for layer in range(self.layers):
            width_in = self.lstm.input_size if layer == 0 else self.width
            flops = 2 * 4 * self.width * (width_in + self.width)
            found.append(LayerCost(f"core.lstm.{layer}", "lstm", flops, bias_flops=4 * self.width))
        return found


def run(lstm: nn.LSTM, features_TBD: Tensor, state: State) -> tuple[Tensor, State]:
    """``lstm(features_TBD, state)``; in float32 where autocast wants a kernel that is not there."""
    on_cpu = features_TBD.device.type == "cpu"
    if on_cpu and torch.is_autocast_enabled("cpu") and not has_bf16():
        features_TBD, state = features_TBD.float(), (state[0].float(), state[1].float())
        with torch.autocast("cpu", enabled=False):
            output, after = lstm(features_TBD, state)
    else:
        output, after = lstm(features_TBD, state)
    return output, after


@cache
def has_bf16() -> bool:
    """True on a CPU whose LSTM kernel has bfloat16; oneDNN's needs AVX-512 on x86, and raises."""
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
