"""Atari's screen: the paper's CNN, IMPALA's larger network, and our own, which is cheap."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.envs.screens import SIDE
from agent_scaling.policies.costs import LayerCost, conv2d_cost, linear_cost
from agent_scaling.policies.encoders.lines import scaled
from agent_scaling.policies.encoders.recompute import recomputed
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
        checkpoint: Have the backward pass compute the encoder's activations again, in place of
            keeping them.
    """

    observations = ("frame",)
    """Observations that a game must provide."""

    first_layers = ("net.0",)
    """Layers that read raw inputs."""

    def __init__(self, net: nn.Module, width: int, frames: int, checkpoint: bool = False) -> None:
        super().__init__()
        self.checkpoint = checkpoint
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
        if self.checkpoint and torch.is_grad_enabled():
            features_ND = recomputed(self._see, [self.net], seen_NKHW)
        else:
            features_ND = self._see(seen_NKHW)
        return features_ND.view(batch.steps, batch.lanes, self.width), (after,)

    def _see(self, seen_NKHW: Tensor) -> Tensor:
        return cast(Tensor, self.net(seen_NKHW.to(next(self.parameters()).dtype) / 255))

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
        checkpoint: As in :class:`AtariEncoder`.
    """

    def __init__(self, width: int = 13, frames: int = 4, checkpoint: bool = False) -> None:
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
        super().__init__(net, 2 * width * 7 * 7, frames, checkpoint)

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
        checkpoint: As in :class:`AtariEncoder`.
    """

    def __init__(
        self,
        width: int = 256,
        channel_scale: float = 1.0,
        frames: int = 4,
        checkpoint: bool = False,
    ) -> None:
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
        super().__init__(nn.Sequential(*layers, *tail), width, frames, checkpoint)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Channels grow with the width's square root, as IMPALA's own have 16 at 256."""
        return {"width": width, "channel_scale": round((width / 256) ** 0.5, 3)}


class Centring(nn.Module):
    """Subtracts the mean screen, and divides by how far pixels lie from it.

    A screen hardly changes: what moves on it is faint beside what does not. Mean and spread are
    running averages over the frames trained on, used alike in training and evaluation.
    """

    mean: Tensor
    variance: Tensor
    windows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(SIDE, SIDE))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("windows", torch.zeros(()))

    def forward(self, frame_TBHW: Tensor) -> Tensor:
        """[T, B, H, W] of 0 … 255 → [T·B, H, W], centred; in training, learn from frame 0."""
        if self.training:
            self._learn(frame_TBHW[0])
        scale = self.variance.add(1e-6).rsqrt()
        return (frame_TBHW.flatten(0, 1).to(self.mean.dtype) - self.mean).mul_(scale)

    @torch.no_grad()
    def _learn(self, frame_BHW: Tensor) -> None:
        self.windows += 1
        seen_BHW = frame_BHW.to(self.mean.dtype)
        self.mean += (seen_BHW.mean(0) - self.mean) / self.windows
        spread = (seen_BHW - self.mean).square().mean()
        self.variance += (spread - self.variance) / self.windows


class AtariProfiles(nn.Module):
    """A screen as weighted sums of its rows and of its columns, then two layers.

    Each profile weighs the columns (or rows) of the centred screen, and gives a value for every
    row (or column): where things are, at the screen's resolution, for a hundredth of a
    convolution's FLOPs. The layers behind compare those of the last frames.

    Args:
        width: Features that it gives.
        profiles: Profiles along either axis.
        hidden: Width of the layer behind.
        frames: Frames that are seen, the current one included.
    """

    observations = ("frame",)
    """Observations that a game must provide."""

    first_layers = ("rows", "columns")
    """Layers that read raw inputs."""

    def __init__(
        self, width: int = 32, profiles: int = 2, hidden: int = 64, frames: int = 2
    ) -> None:
        super().__init__()
        if min(width, profiles, hidden, frames) < 1:
            raise InputError(
                f"policy.encoder: width={width}, profiles={profiles}, hidden={hidden} and "
                f"frames={frames}: at least 1"
            )
        self.width, self.profiles = width, profiles
        self.centring = Centring()
        self.rows = nn.Linear(SIDE, profiles, bias=False)
        self.columns = nn.Linear(SIDE, profiles, bias=False)
        self.stack = FrameStack(frames, (2 * SIDE * profiles,), torch.float32)
        self.enter = nn.Linear(2 * SIDE * profiles * frames, width)
        self.norm, self.out_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Profiles and the layer behind grow with the width."""
        return {"width": width, "profiles": max(1, round(width / 16)), "hidden": 2 * width}

    def initial_state(self, lanes: int) -> State:
        """Profiles of the mean screen, [frames − 1, lanes, 168 · profiles], which are 0."""
        return (self.stack.initial_state(lanes, self.enter.weight.device),)

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """T·B frames and the state → [T, B, width] and the state after the window."""
        if batch.frame_TBHW is None:
            raise InputError("the policy reads Atari's screen, the data are another game's")
        screen_NHW = self.centring(batch.frame_TBHW).to(self.rows.weight.dtype)
        along_NHP = self.columns(screen_NHW)
        across_NPW = torch.matmul(self.rows.weight, screen_NHW)
        profiles_ND = torch.cat([along_NHP.flatten(1), across_NPW.flatten(1)], dim=1).float()
        profiles_TBD = profiles_ND.view(batch.steps, batch.lanes, -1)
        seen_TBDK, after = self.stack(profiles_TBD, batch.first_TB, state[0], batch.ahead)
        x_TBD = self.enter(seen_TBDK.flatten(2).to(self.enter.weight.dtype))
        x_TBD = x_TBD + self.down(F.relu(self.up(self.norm(x_TBD))).square())
        return cast(Tensor, self.out_norm(x_TBD)), (after,)

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer."""
        found = [linear_cost(name, SIDE * SIDE, self.profiles) for name in self.first_layers]
        for name, layer in (("enter", self.enter), ("up", self.up), ("down", self.down)):
            found.append(linear_cost(name, layer.in_features, layer.out_features))
        return found
