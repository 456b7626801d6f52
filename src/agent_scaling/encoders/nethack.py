"""The paper's screen encoder for NetHack: message, status lines, map and crop become one vector.

The network is the one that the paper's authors released with its first version (arXiv 2307.09423v1,
appendix on architecture): same function, other kernels. The message line is a bag of embeddings,
not a product with one-hot rows; the crop is an integer gather, not a grid sample on floats.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.actions import NUM_ACTIONS
from agent_scaling.batch import COLUMNS, Batch
from agent_scaling.costs import LayerCost, conv2d_cost
from agent_scaling.encoders.lines import MessageLine, StatusLines, mlp, mlp_costs, scaled

MAP_ROWS = 21  # rows 1–21 of the terminal; 0 is the message, 22 and 23 are the status lines
CROP = 9
CROP_CHANNELS = (16, 16, 16, 16, 8)


class ResidualBlock(nn.Module):
    """``x + (conv 3×3, BatchNorm, ELU) × layers``."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        net: list[nn.Module] = []
        for _ in range(layers):
            net += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ELU()]
        self.net = nn.Sequential(*net)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Add what the layers see."""
        return x_NCHW + cast(Tensor, self.net(x_NCHW))


class MapEncoder(nn.Module):
    """[N, C, 21, 80] embedded cells → [N, width]: convolution blocks, then ELU layers."""

    def __init__(
        self,
        inputs: int,
        channels: list[int],
        residual_blocks: int,
        residual_layers: int,
        fc_layers: int,
        width: int,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        size, before = (MAP_ROWS, COLUMNS), inputs
        self.sizes: list[tuple[int, int]] = []
        for after in channels:
            self.sizes.append(size)
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.MaxPool2d(3, stride=2),
                    *(ResidualBlock(after, residual_layers) for _ in range(residual_blocks)),
                )
            )
            size, before = ((size[0] - 3) // 2 + 1, (size[1] - 3) // 2 + 1), after
        if min(size) < 1:
            raise ValueError(f"{len(channels)} blocks shrink the 21×80 map to nothing: use fewer")
        self.sizes.append(size)
        self.blocks = nn.Sequential(*blocks)
        flat = before * size[0] * size[1]
        self.mlp = mlp([flat] + [width] * fc_layers, nn.ELU)

    def forward(self, cells_NCHW: Tensor) -> Tensor:
        """Blocks, flatten (channel-major, as released), layers."""
        return cast(Tensor, self.mlp(self.blocks(cells_NCHW).flatten(1)))

    def costs(self) -> list[LayerCost]:
        """Convolutions at their output's size, then the layers."""
        found: list[LayerCost] = []
        for index, block in enumerate(cast(nn.Sequential, b) for b in self.blocks):
            for name, layer in block.named_modules():
                if isinstance(layer, nn.Conv2d):
                    # The block's first convolution comes before its pooling.
                    size = self.sizes[index] if name == "0" else self.sizes[index + 1]
                    widths = (layer.in_channels, layer.out_channels)
                    found.append(conv2d_cost(f"map.blocks.{index}.{name}", widths, 3, size))
        return [*found, *mlp_costs("map.mlp", self.mlp)]


class Crop(nn.Module):
    """The 9×9 cells around the cursor, through five convolutions: → [N, features].

    ``offset`` is the window's first row and column relative to the cursor. The release floors −9/2
    to −5 and so sees −5…+3; that is kept, because its checkpoints were trained so.
    """

    window: Tensor

    def __init__(
        self, inputs: int, norm: bool = True, scale: float = 1.0, offset: int = -5
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = inputs
        for after in (scaled(c, scale) for c in CROP_CHANNELS):
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            layers += [nn.BatchNorm2d(after), nn.ELU()] if norm else [nn.ELU()]
            before = after
        self.net = nn.Sequential(*layers)
        self.features = before * CROP**2  # width of the flattened crop
        window = torch.arange(CROP) + offset
        self.register_buffer("window", window, persistent=False)

    def cells(
        self, chars_NHW: Tensor, colors_NHW: Tensor, cursor_N2: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gather the window's characters and colours, int64 [N, 9, 9]; 0 outside the map."""
        # The release subtracts the message row from a uint8: on that row the cursor wraps to 255,
        # and the crop is empty.
        row_N = (cursor_N2[:, 0].to(torch.uint8) - 1).long()
        row_N9 = row_N[:, None] + self.window
        column_N9 = cursor_N2[:, 1].long()[:, None] + self.window
        inside = ((row_N9 >= 0) & (row_N9 < MAP_ROWS))[:, :, None] & (
            (column_N9 >= 0) & (column_N9 < COLUMNS)
        )[:, None, :]
        rows, columns = row_N9.clamp(0, MAP_ROWS - 1), column_N9.clamp(0, COLUMNS - 1)
        index = (rows[:, :, None] * COLUMNS + columns[:, None, :]).flatten(1)
        picked = [
            plane.flatten(1).gather(1, index).view_as(inside).long() * inside
            for plane in (chars_NHW, colors_NHW)
        ]
        return picked[0], picked[1]

    def forward(self, cells_NCHW: Tensor) -> Tensor:
        """Embedded window → flat features."""
        return cast(Tensor, self.net(cells_NCHW)).flatten(1)

    def costs(self) -> list[LayerCost]:
        """Five convolutions at 9×9."""
        return [
            conv2d_cost(
                f"crop.net.{name}", (layer.in_channels, layer.out_channels), 3, (CROP, CROP)
            )
            for name, layer in self.net.named_children()
            if isinstance(layer, nn.Conv2d)
        ]


class NetHackEncoder(nn.Module):
    """A frame of the terminal and the previous action → [N, ``width``].

    Args:
        width: Features of the last layer, which the core reads (the release's ``h_dim``).
        message_width: Width of the message line's two layers (``msg_hdim``); 0 leaves it out.
        status_width: The status lines' MLP has a quarter of this (``blstats_hdim``).
        status_scale: Multiplies the status lines' channels.
        map_width: Width of the map's layers (``fc_after_cnn_hdim``).
        map_fc_layers: Layers after the map's convolutions (``num_screen_fc_layers``).
        fc_layers: Layers before the core (``num_fc_layers``).
        blocks: Convolution blocks over the map, of 16, 32, 32, … channels times ``channel_scale``.
        residual_blocks: Residual blocks in each convolution block.
        residual_layers: Convolutions in each residual block.
        channel_scale: Multiplies the map's channels.
        crop: Whether the window around the cursor is seen.
        crop_norm: BatchNorm in the crop's convolutions.
        crop_scale: Multiplies the crop's channels.
        embedding: Width of a character's embedding, and of a colour's.
        prev_action: Whether the previous action is seen, as a one-hot vector.
        channels_last: Run convolutions channels-last, about 1.25 times as fast on a CPU. Rounding
            then differs from cell to cell, which breaks ties between equal cells in the pooling at
            random: gradients agree with the release to 1e-6 without it, and to some 1e-3 with it.
    """

    def __init__(
        self,
        width: int = 512,
        message_width: int = 64,
        status_width: int = 512,
        status_scale: float = 1.0,
        map_width: int = 512,
        map_fc_layers: int = 1,
        fc_layers: int = 2,
        blocks: int = 3,
        residual_blocks: int = 2,
        residual_layers: int = 2,
        channel_scale: float = 1.0,
        crop: bool = True,
        crop_norm: bool = True,
        crop_scale: float = 1.0,
        embedding: int = 16,
        prev_action: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        channels = [scaled(c, channel_scale) for c in ([16] + [32] * (blocks - 1))]
        self.width = width
        self.chars = nn.Embedding(256, embedding)
        self.colors = nn.Embedding(128, embedding)
        self.message = MessageLine(message_width) if message_width else None
        self.status = StatusLines(status_width // 4, status_scale)
        residual = (residual_blocks, residual_layers)
        self.map = MapEncoder(2 * embedding, channels, *residual, map_fc_layers, map_width)
        self.crop = Crop(2 * embedding, crop_norm, crop_scale) if crop else None
        self.num_actions = NUM_ACTIONS if prev_action else 0
        crop_width = self.crop.features if self.crop else 0
        joined = message_width + status_width // 4 + map_width + self.num_actions + crop_width
        self.fc = mlp([joined] + [width] * fc_layers, nn.ReLU)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of an encoder of ``width`` for a policy of ``params`` parameters.

        Layers that are read as vectors grow with the width. Channels grow with its square root, so
        that the map's convolutions do not take nearly all of the compute (they cost hundreds of
        FLOPs per parameter); those that the release fixes only shrink below its 512. The message's
        table gets an eighth of the parameters, up to 128 columns, and none below 82 thousand.
        """
        scale = (width / 512) ** 0.5
        small = min(1.0, scale)
        return {
            "width": width,
            "message_width": min(128, round(params / 8 / (COLUMNS * 256))),
            "status_width": 4 * max(1, round(width / 4)),
            "status_scale": round(small, 3),
            "map_width": width,
            # Above 512, the map's channels are multiples of 8, which tensor cores need.
            "channel_scale": round(small, 3) if scale < 1 else round(2 * scale) / 2,
            "crop_scale": round(small, 3),
            "embedding": max(2, round(16 * small)),
        }

    def embed(self, chars_NHW: Tensor, colors_NHW: Tensor) -> Tensor:
        """Cells → [N, C, H, W]; the look-up leaves them channels-last, so that costs no copy."""
        cells = [self.chars(chars_NHW.long()), self.colors(colors_NHW.long())]
        joined = torch.cat(cells, dim=-1).permute(0, 3, 1, 2)
        return joined.contiguous(memory_format=self.memory_format)

    def forward(self, batch: Batch) -> Tensor:
        """T·B frames → [T, B, width]."""
        steps, lanes = batch.steps, batch.lanes
        chars_NHW, colors_NHW = batch.chars_TBHW.flatten(0, 1), batch.colors_TBHW.flatten(0, 1)
        map_chars, map_colors = chars_NHW[:, 1 : 1 + MAP_ROWS], colors_NHW[:, 1 : 1 + MAP_ROWS]
        parts = [self.message(chars_NHW[:, 0])] if self.message else []
        parts += [
            self.status(chars_NHW[:, 1 + MAP_ROWS :].flatten(1)),
            self.map(self.embed(map_chars, map_colors)),
        ]
        if self.num_actions:
            action_N = batch.prev_action_TB.flatten()
            parts.append(F.one_hot(action_N, self.num_actions).to(parts[0].dtype))
        if self.crop:
            cursor_N2 = batch.cursor_TB2.flatten(0, 1)
            parts.append(self.crop(self.embed(*self.crop.cells(map_chars, map_colors, cursor_N2))))
        features = cast(Tensor, self.fc(torch.cat(parts, dim=1)))
        return features.view(steps, lanes, self.width)

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer."""
        found = self.message.costs() if self.message else []
        found += [*self.status.costs(), *self.map.costs()]
        if self.crop:
            found += self.crop.costs()
        return [*found, *mlp_costs("fc", self.fc)]
