"""Atari's screen: the paper's CNN, and the IMPALA network as the larger alternative."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.envs.screens import SIDE
from agent_scaling.policies.costs import LayerCost, conv2d_cost, linear_cost
from agent_scaling.policies.encoders.lines import scaled
from agent_scaling.policies.encoders.stack import FrameStack
from agent_scaling.runtime.errors import InputError

State = tuple[Tensor, ...]


class AtariEncoder(nn.Module):
    """Stacks the last frames of the game and sends them through ``net``.

    Recordings and games hold single frames; those before a game's first are black.

    Args:
        net: float [N, frames, 84, 84] in 0 … 1 → [N, width].
        width: Features that it gives.
        frames: Frames that are seen, the current one included.
    """

    observations = ("frame",)
    """Observations that a game must provide."""

    first_layers = ("net.0",)
    """Layers that read raw inputs."""

    def __init__(self, net: nn.Module, width: int, frames: int) -> None:
        super().__init__()
        self.net, self.width = net.to(memory_format=torch.channels_last), width  # type: ignore[call-overload]
        self.stack = FrameStack(frames, (SIDE, SIDE), torch.uint8)

    def initial_state(self, lanes: int) -> State:
        """Black frames [frames − 1, lanes, 84, 84]."""
        return (self.stack.initial_state(lanes, next(self.parameters()).device),)

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """T·B frames and the state → [T, B, width] and the state after the window."""
        if batch.frame_TBHW is None:
            raise InputError("the policy reads Atari's screen, the data are another game's")
        stacked_TBHWK, after = self.stack(batch.frame_TBHW, batch.first_TB, state[0], batch.ahead)
        # The frames of a stack lie side by side: seen as channels, that is channels-last already.
        seen_NKHW = stacked_TBHWK.flatten(0, 1).permute(0, 3, 1, 2)
        features = cast(Tensor, self.net(seen_NKHW.to(next(self.parameters()).dtype) / 255))
        return features.view(batch.steps, batch.lanes, self.width), (after,)

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer."""
        found, size = [], SIDE
        for name, layer in self.net.named_modules():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                kernel, stride, padding = (
                    v if isinstance(v, int) else int(v[0])
                    for v in (layer.kernel_size, layer.stride, layer.padding)
                )
                before, size = size, (size + 2 * padding - kernel) // stride + 1
                if isinstance(layer, nn.Conv2d):
                    channels = (layer.in_channels, layer.out_channels)
                    sizes = (size, size), (before, before)
                    found.append(conv2d_cost(f"net.{name}", channels, kernel, *sizes))
            elif isinstance(layer, nn.Linear):
                found.append(linear_cost(f"net.{name}", layer.in_features, layer.out_features))
        return found


class AtariCNN(AtariEncoder):
    """The paper's network (arXiv 2307.09423, §4): convolutions 8/4, 4/2 and 3/1, then the head.

    Args:
        width: Channels w of the first convolution; the others have 2w. The paper's widths are 1, 3,
            5, 8, 13, 23, 34, 50, 81, 117, 167 and 266.
        frames: Frames that are seen, the current one included.
    """

    def __init__(self, width: int = 13, frames: int = 4) -> None:
        if width < 1 or frames < 1:
            raise InputError(f"policy.encoder: width={width} and frames={frames}: at least 1")
        net = nn.Sequential(
            nn.Conv2d(frames, width, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        super().__init__(net, 2 * width * 7 * 7, frames)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """The width is the only one."""
        return {"width": width}


class Residual(nn.Module):
    """``x + conv(ReLU(conv(ReLU(x))))``, 3×3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.net = nn.Sequential(*(part for conv in convolutions for part in (nn.ReLU(), conv)))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Add the layers' output to their input."""
        return x_NCHW + cast(Tensor, self.net(x_NCHW))


class AtariResNet(AtariEncoder):
    """IMPALA's deep network (Espeholt et al. 2018, arXiv 1802.01561, figure 3) without its LSTM.

    Args:
        width: Features of the last layer.
        channel_scale: Multiplies the blocks' 16, 32 and 32 channels.
        frames: Frames that are seen, the current one included.
    """

    def __init__(self, width: int = 256, channel_scale: float = 1.0, frames: int = 4) -> None:
        if width < 1 or frames < 1:
            raise InputError(f"policy.encoder: width={width} and frames={frames}: at least 1")
        layers: list[nn.Module] = []
        before, size = frames, SIDE
        for channels in (scaled(c, channel_scale) for c in (16, 32, 32)):
            layers += [
                nn.Conv2d(before, channels, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                Residual(channels),
                Residual(channels),
            ]
            before, size = channels, (size + 1) // 2
        features = before * size * size
        tail = [nn.ReLU(), nn.Flatten(), nn.Linear(features, width), nn.ReLU()]
        super().__init__(nn.Sequential(*layers, *tail), width, frames)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Channels grow with the width's square root, as IMPALA's own have 16 at 256."""
        return {"width": width, "channel_scale": round((width / 256) ** 0.5, 3)}
