"""The published network, restated plainly from its description: the benchmark's peer.

It does what the release does and as it does it: a one-hot product for the message line, a Python
loop over time for the LSTM's resets, a floating-point grid sample for the crop, convolutions on
contiguous NCHW. Parameter names are the release's, so that its checkpoints load.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.data.batch import Batch

State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Shape:
    """What the release's flags can ask for; the defaults are its own."""

    h: int = 512
    scale: float = 1.0
    message: int = 64
    status: int = 0
    """0: the width h, of which the layers have a quarter."""
    map_width: int = 0
    """0: the width h."""
    lstm_layers: int = 1
    """0: none (``use_lstm`` off)."""
    fc_layers: int = 2
    map_fc_layers: int = 1
    blocks: int = 3
    residual_blocks: int = 2
    residual_layers: int = 2
    crop: bool = True
    crop_norm: bool = True
    prev_action: bool = True
    frames: int = 1
    embedding: int = 16


def dense(width_in: int, width: int, layers: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of one width, each with its activation."""
    widths = [width_in] + [width] * layers
    parts = [(nn.Linear(*pair), activation()) for pair in pairwise(widths)]
    return nn.Sequential(*(module for pair in parts for module in pair))


class MessageLine(nn.Module):
    """One-hot characters of the top line through two dense layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.msg_fwd = nn.Sequential(
            nn.Linear(80 * 256, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        )

    def forward(self, chars: Tensor) -> Tensor:
        """[N, 80] → [N, width]."""
        return self.msg_fwd(F.one_hot(chars.long(), 256).flatten(1).float())


class StatusLines(nn.Module):
    """The two status lines through 1-d convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_net = nn.Sequential(
            nn.Conv1d(2, 32, 8, stride=4), nn.ELU(), nn.Conv1d(32, 64, 4), nn.ELU()
        )
        self.fwd_net = nn.Sequential(
            nn.Linear(64 * 36, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        )

    def forward(self, chars: Tensor) -> Tensor:
        """[N, 160] → [N, width]."""
        codes = chars.float()
        digits = torch.where((codes >= 45) & (codes <= 57), (codes - 47) / 10, 0.0)
        return self.fwd_net(self.conv_net(torch.stack([(codes - 32) / 96, digits], 1)).flatten(1))


class Residual(nn.Module):
    """A residual block of convolutions, norms and ELUs."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
            parts += [nn.ELU()]
        self.net = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """x + net(x)."""
        return x + self.net(x)


class Screen(nn.Module):
    """Embedded map cells through convolution blocks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before, size = 2 * shape.embedding * shape.frames, (21, 80)
        for after in [int(c * shape.scale) for c in (16, 32, 32)][: shape.blocks]:
            residual = [
                Residual(after, shape.residual_layers) for _ in range(shape.residual_blocks)
            ]
            conv = nn.Conv2d(before, after, 3, padding=1)
            blocks.append(nn.Sequential(conv, nn.MaxPool2d(3, stride=2), *residual))
            before, size = after, ((size[0] - 1) // 2, (size[1] - 1) // 2)
        self.conv_net = nn.Sequential(*blocks)
        width = shape.map_width or shape.h
        self.fc_head = dense(before * size[0] * size[1], width, shape.map_fc_layers, nn.ELU)
        self.char_embeddings = nn.Embedding(256, shape.embedding)
        self.color_embeddings = nn.Embedding(128, shape.embedding)

    def embed(self, chars: Tensor, colors: Tensor) -> Tensor:
        """[N, H, W] (or [N, frames, H, W]) twice → [N, C, H, W], contiguous."""
        parts = [
            table.weight.index_select(0, plane.long().reshape(-1)).view(*plane.shape, -1)
            for table, plane in ((self.char_embeddings, chars), (self.color_embeddings, colors))
        ]
        cells = torch.cat(parts, -1)
        if cells.dim() == 4:
            cells = cells[:, None]
        return cells.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous()

    def forward(self, chars: Tensor, colors: Tensor) -> Tensor:
        """[N, frames, 21, 80] twice → [N, width]."""
        return self.fc_head(self.conv_net(self.embed(chars, colors)).flatten(1))


class PublishedNetwork(nn.Module):
    """The whole of it, in one of the shapes that its flags can ask for."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, h = shape, shape.h
        status = (shape.status or h) // 4
        self.topline_encoder = MessageLine(shape.message)
        self.bottomline_encoder = StatusLines(status)
        self.screen_encoder = Screen(shape)
        joined = shape.message + status + (shape.map_width or h) + 121 * shape.prev_action
        if shape.crop:
            crop: list[nn.Module] = []
            channels = (2 * shape.embedding, 16, 16, 16, 16, 8)
            for before, after in pairwise(channels):
                crop.append(nn.Conv2d(before, after, 3, padding=1))
                crop += [nn.BatchNorm2d(after), nn.ELU()] if shape.crop_norm else [nn.ELU()]
            self.extract_crop_representation = nn.Sequential(*crop)
            joined += 648
        self.fc = dense(joined, h, shape.fc_layers, nn.ReLU)
        if shape.lstm_layers:
            self.core = nn.LSTM(h, h, num_layers=shape.lstm_layers)
        self.policy = nn.Linear(h, 121)
        self.baseline = nn.Linear(h, 1)
        steps = torch.arange(-9 // 2, 9 // 2)
        self.register_buffer("row_step", (2 / 20 * steps)[:, None].expand(9, 9), persistent=False)
        self.register_buffer("col_step", (2 / 79 * steps)[None, :].expand(9, 9), persistent=False)

    def crop_of(self, plane: Tensor, cursor: Tensor) -> Tensor:
        """Sample the 9×9 window around the cursor from one plane."""
        row = (cursor[:, 0].float() - 10) / 10  # to [-1, 1] over 21 rows
        col = (cursor[:, 1].float() - 39.5) / 39.5
        grid = torch.stack(
            [self.col_step + col[:, None, None], self.row_step + row[:, None, None]], -1
        )
        sampled = F.grid_sample(plane.float()[:, None], grid, align_corners=True)
        return sampled.squeeze(1).round()

    def stack(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Characters and colours of the map, [T·B, frames, 21, 80]; blank before a game's first."""
        blanks = torch.full_like(batch.chars_TBHW[0], 32), torch.zeros_like(batch.colors_TBHW[0])
        kept = [[blank] * self.shape.frames for blank in blanks]
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for t, first in enumerate(batch.first_TB):
            for index, plane in enumerate((batch.chars_TBHW, batch.colors_TBHW)):
                new = first[:, None, None]
                kept[index] = [torch.where(new, blanks[index], old) for old in kept[index][1:]]
                kept[index].append(plane[t])
                found[index].append(torch.stack(kept[index], 1)[:, :, 1:-2])
        return torch.cat(found[0]), torch.cat(found[1])

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, Tensor, State]:
        """As ``agent_scaling.policies.policy.Policy``."""
        steps, lanes = batch.steps, batch.lanes
        chars, colors = batch.chars_TBHW.flatten(0, 1), batch.colors_TBHW.flatten(0, 1)
        cursor = batch.cursor_TB2.flatten(0, 1).clone()
        cursor[:, 0] -= 1
        map_chars, map_colors = chars[:, 1:-2].contiguous(), colors[:, 1:-2].contiguous()
        stacked = map_chars[:, None], map_colors[:, None]
        if self.shape.frames > 1:
            stacked = self.stack(batch)
        parts = [
            self.topline_encoder(chars[:, 0]),
            self.bottomline_encoder(chars[:, -2:].flatten(1)),
            self.screen_encoder(*stacked),
        ]
        if self.shape.prev_action:
            parts.append(F.one_hot(batch.prev_action_TB.flatten(), 121).float())
        if self.shape.crop:
            crops = self.crop_of(map_chars, cursor), self.crop_of(map_colors, cursor)
            cells = self.screen_encoder.embed(*crops)
            parts.append(self.extract_crop_representation(cells).flatten(1))
        features = self.fc(torch.cat(parts, 1)).view(steps, lanes, -1)
        if not self.shape.lstm_layers:
            return self.policy(features), self.baseline(features).squeeze(-1), state
        outputs = []
        for feature, first in zip(features, batch.first_TB, strict=True):
            keep = (~first).float()[None, :, None]
            state = (state[0] * keep, state[1] * keep)
            output, state = self.core(feature[None], state)
            outputs.append(output)
        core = torch.cat(outputs)
        return self.policy(core), self.baseline(core).squeeze(-1), state
