"""The map of NetHack's terminal, whole and around the cursor, through convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from agent_scaling.envs.screens import COLUMNS
from agent_scaling.policies.costs import LayerCost, conv2d_cost
from agent_scaling.policies.encoders.lines import mlp, mlp_costs, scaled
from agent_scaling.policies.encoders.recompute import recomputed

MAP_ROWS = 21  # rows 1–21 of the terminal; 0 is the message, 22 and 23 are the status lines
CROP = 9
CROP_CHANNELS = (16, 16, 16, 16, 8)


class ResidualBlock(nn.Module):
    """``x + (convolution, BatchNorm, ELU) × layers``."""

    def __init__(self, channels: int, layers: int, kernel: int = 3) -> None:
        super().__init__()
        net: list[nn.Module] = []
        for _ in range(layers):
            conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
            net += [conv, nn.BatchNorm2d(channels), nn.ELU()]
        self.net = nn.Sequential(*net)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Add the layers' output to their input."""
        return x_NCHW + cast(Tensor, self.net(x_NCHW))


class MapEncoder(nn.Module):
    """[N, C, ``rows``, 80] embedded cells → [N, width]: convolution blocks, then ELU layers."""

    def __init__(
        self,
        inputs: int,
        channels: list[int],
        residual_blocks: int,
        residual_layers: int,
        fc_layers: int,
        width: int,
        kernel: int = 3,
        rows: int = MAP_ROWS,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        blocks: list[nn.Module] = []
        size, before = (rows, COLUMNS), inputs
        self.sizes: list[tuple[int, int]] = []
        for after in channels:
            self.sizes.append(size)
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, after, kernel, padding=kernel // 2),
                    nn.MaxPool2d(3, stride=2),
                    *(
                        ResidualBlock(after, residual_layers, kernel)
                        for _ in range(residual_blocks)
                    ),
                )
            )
            size, before = ((size[0] - 3) // 2 + 1, (size[1] - 3) // 2 + 1), after
        if min(size) < 1:
            raise ValueError(f"{len(channels)} blocks shrink {rows}×80 cells to nothing: use fewer")
        self.sizes.append(size)
        self.blocks = nn.Sequential(*blocks)
        flat = before * size[0] * size[1]
        self.mlp = mlp([flat] + [width] * fc_layers, nn.ELU, norm)

    def forward(self, cells_NCHW: Tensor) -> Tensor:
        """Blocks, flatten (channel-major, as released), layers."""
        return cast(Tensor, self.mlp(self.blocks(cells_NCHW).flatten(1)))

    def recomputed(
        self, embed: Callable[[list[Tensor]], Tensor], planes_NHW: list[Tensor]
    ) -> Tensor:
        """The same of ``embed(planes_NHW)``; the backward pass computes it again by stages.

        Kept is what goes from stage to stage: a convolution and its pooling, or a residual block.
        """
        stages: list[nn.Sequential] = []
        for conv, pool, *residual in cast(Iterable[Iterable[nn.Module]], self.blocks):
            stages += [nn.Sequential(conv, pool), *map(nn.Sequential, residual)]
        first, *others = stages
        x_NCHW = recomputed(lambda *planes: first(embed(list(planes))), [first], *planes_NHW)
        for stage in others:
            x_NCHW = recomputed(stage, [stage], x_NCHW)
        return cast(Tensor, self.mlp(x_NCHW.flatten(1)))

    def costs(self) -> list[LayerCost]:
        """Convolutions at their output's size, then the layers."""
        found: list[LayerCost] = []
        for index, block in enumerate(cast(nn.Sequential, b) for b in self.blocks):
            for name, layer in block.named_modules():
                if isinstance(layer, nn.Conv2d):
                    # The block's first convolution comes before its pooling.
                    size = self.sizes[index] if name == "0" else self.sizes[index + 1]
                    widths = (layer.in_channels, layer.out_channels)
                    found.append(
                        conv2d_cost(f"map.blocks.{index}.{name}", widths, self.kernel, size)
                    )
        return [*found, *mlp_costs("map.mlp", self.mlp)]


class Crop(nn.Module):
    """The 9×9 cells around the cursor, through five convolutions: → [N, features].

    The planes have ``rows`` rows, of which the first is the terminal's ``top``. ``offset`` is the
    window's first row and column relative to the cursor. The release floors −9/2 to −5 and so sees
    −5…+3; that is kept, because its checkpoints were trained so.
    """

    window: Tensor

    def __init__(
        self,
        inputs: int,
        norm: bool = True,
        scale: float = 1.0,
        offset: int = -5,
        top: int = 1,
        rows: int = MAP_ROWS,
    ) -> None:
        super().__init__()
        self.top, self.rows = top, rows
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

    def cells(self, planes_NHW: list[Tensor], cursor_N2: Tensor) -> list[Tensor]:
        """Gather the window from each plane, int64 [N, 9, 9]; 0 outside the map."""
        # The release subtracts the message row from a uint8: on that row the cursor wraps to 255,
        # and the crop is empty.
        row_N = (cursor_N2[:, 0].to(torch.uint8) - self.top).long()
        row_N9 = row_N[:, None] + self.window
        column_N9 = cursor_N2[:, 1].long()[:, None] + self.window
        inside = ((row_N9 >= 0) & (row_N9 < self.rows))[:, :, None] & (
            (column_N9 >= 0) & (column_N9 < COLUMNS)
        )[:, None, :]
        rows, columns = row_N9.clamp(0, self.rows - 1), column_N9.clamp(0, COLUMNS - 1)
        index = (rows[:, :, None] * COLUMNS + columns[:, None, :]).flatten(1)
        return [
            plane.flatten(1).gather(1, index).view_as(inside).long() * inside
            for plane in planes_NHW
        ]

    def forward(self, cells_NCHW: Tensor) -> Tensor:
        """Embedded window → flat features."""
        return cast(Tensor, self.net(cells_NCHW)).flatten(1)

    def recomputed(
        self, embed: Callable[[list[Tensor]], Tensor], cells_NHW: list[Tensor]
    ) -> Tensor:
        """The same of ``embed(cells_NHW)``; the backward pass computes it again."""
        return recomputed(lambda *cells: self(embed(list(cells))), [self], *cells_NHW)

    def costs(self) -> list[LayerCost]:
        """Five convolutions at 9×9."""
        return [
            conv2d_cost(
                f"crop.net.{name}", (layer.in_channels, layer.out_channels), 3, (CROP, CROP)
            )
            for name, layer in self.net.named_children()
            if isinstance(layer, nn.Conv2d)
        ]
