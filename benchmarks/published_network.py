"""The published network, restated plainly from its description: the benchmark's peer.

It does what the release does and as it does it: a one-hot product for the message line, a Python
loop over time for the LSTM's resets, a floating-point grid sample for the crop, convolutions on
contiguous NCHW. Parameter names are the release's, so that its checkpoints load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.batch import Batch

State = tuple[Tensor, Tensor]


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

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 32
        for after in (16 * scale, 32 * scale, 32 * scale):
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.MaxPool2d(3, stride=2),
                    Residual(after, 2),
                    Residual(after, 2),
                )
            )
            before = after
        self.conv_net = nn.Sequential(*blocks)
        self.fc_head = nn.Sequential(nn.Linear(before * 9, width), nn.ELU())
        self.char_embeddings = nn.Embedding(256, 16)
        self.color_embeddings = nn.Embedding(128, 16)

    def embed(self, chars: Tensor, colors: Tensor) -> Tensor:
        """[N, H, W] twice → [N, 32, H, W], contiguous."""
        parts = [
            table.weight.index_select(0, plane.long().reshape(-1)).view(*plane.shape, -1)
            for table, plane in ((self.char_embeddings, chars), (self.color_embeddings, colors))
        ]
        return torch.cat(parts, -1).permute(0, 3, 1, 2).contiguous()

    def forward(self, chars: Tensor, colors: Tensor) -> Tensor:
        """[N, 21, 80] twice → [N, width]."""
        return self.fc_head(self.conv_net(self.embed(chars, colors)).flatten(1))


class PublishedNetwork(nn.Module):
    """The whole of it, at width ``h`` and channel scale ``scale``."""

    def __init__(self, h: int = 512, scale: int = 1, message: int = 64) -> None:
        super().__init__()
        self.topline_encoder = MessageLine(message)
        self.bottomline_encoder = StatusLines(h // 4)
        self.screen_encoder = Screen(h, scale)
        crop: list[nn.Module] = []
        for before, after in ((32, 16), (16, 16), (16, 16), (16, 16), (16, 8)):
            crop += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ELU()]
        self.extract_crop_representation = nn.Sequential(*crop)
        joined = message + h // 4 + h + 121 + 648
        self.fc = nn.Sequential(nn.Linear(joined, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.core = nn.LSTM(h, h)
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

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, Tensor, State]:
        """As ``agent_scaling.policy.Policy``."""
        steps, lanes = batch.steps, batch.lanes
        chars, colors = batch.chars_TBHW.flatten(0, 1), batch.colors_TBHW.flatten(0, 1)
        cursor = batch.cursor_TB2.flatten(0, 1).clone()
        cursor[:, 0] -= 1
        map_chars, map_colors = chars[:, 1:-2].contiguous(), colors[:, 1:-2].contiguous()
        crops = self.crop_of(map_chars, cursor), self.crop_of(map_colors, cursor)
        parts = [
            self.topline_encoder(chars[:, 0]),
            self.bottomline_encoder(chars[:, -2:].flatten(1)),
            self.screen_encoder(map_chars, map_colors),
            F.one_hot(batch.prev_action_TB.flatten(), 121).float(),
            self.extract_crop_representation(self.screen_encoder.embed(*crops)).flatten(1),
        ]
        features = self.fc(torch.cat(parts, 1)).view(steps, lanes, -1)
        outputs = []
        for feature, first in zip(features, batch.first_TB, strict=True):
            keep = (~first).float()[None, :, None]
            state = (state[0] * keep, state[1] * keep)
            output, state = self.core(feature[None], state)
            outputs.append(output)
        core = torch.cat(outputs)
        return self.policy(core), self.baseline(core).squeeze(-1), state
