"""The screen encoder of the second release of the paper's authors (arXiv 2307.09423v3).

It differs from the first release's in what is optional there: LayerNorms behind linear layers,
colours added to characters instead of joined, the inventory slot by slot, the map with message and
status lines, other kernels.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.screens import COLUMNS, ROWS
from agent_scaling.policies.costs import LayerCost
from agent_scaling.policies.encoders.inventory import InventorySlots
from agent_scaling.policies.encoders.lines import MessageLine, StatusLines, mlp, mlp_costs, scaled
from agent_scaling.policies.encoders.lookup import look_up
from agent_scaling.policies.encoders.screen import MAP_ROWS, Crop, MapEncoder
from agent_scaling.policies.encoders.stack import FrameStack, stack_planes
from agent_scaling.policies.encoders.unit_init import unit_filters, unit_layers
from agent_scaling.runtime.errors import InputError

State = tuple[Tensor, ...]


class Release2Encoder(nn.Module):
    """A frame of the terminal and the previous action → [N, ``width``].

    Args:
        width: Features of the last layer, which the core reads (the release's ``hdim``).
        message_width: Width of the message line's two layers (``msg_hdim``).
        status_width: The status lines' layers have a quarter of this (``blstats_hdim``).
        inventory: See the inventory (``use_inventory``).
        inventory_width: Width of its two layers (``inv_hdim``).
        inventory_embedding: Width of a glyph's vector (``inv_edim``).
        map_width: Width of the map's linear layers (``resnet_hdim``).
        map_fc_layers: Linear layers behind the map's convolutions (``resnet_num_fc_layers``).
        fc_layers: Layers before the core (``policy_num_fc_layers``).
        channels: Channels of each convolution block over the map (``obs_conv_blocks`` of them).
        residual_blocks: Residual blocks in each (``resnet_num_blocks``).
        residual_layers: Convolutions in each residual block (``resnet_num_layers``).
        kernel: Of the map's convolutions, odd (``obs_kernel_size``).
        embedding: Width of a character's vector (``char_edim``).
        color_embedding: Width of a colour's (``color_edim``); None is ``embedding``.
        summed: Add a cell's two vectors; otherwise they are joined (``add_char_color``).
        norms: LayerNorm behind linear layers (``add_norm_after_linear``).
        whole: The map has the message and status lines, too (``include_top_and_bottom``).
        frames: Frames of the map that are seen (``obs_frame_stack``).
        unit_init: Scale the initial weights of lines, map, mixer and head to norms that no draw
            decides (``fix_initialization``); nothing else changes.
        channels_last: As in :class:`~agent_scaling.policies.encoders.nethack.NetHackEncoder`.
        checkpoint: As there.
    """

    def __init__(
        self,
        width: int = 1024,
        message_width: int = 64,
        status_width: int = 512,
        inventory: bool = True,
        inventory_width: int = 256,
        inventory_embedding: int = 32,
        map_width: int = 512,
        map_fc_layers: int = 2,
        fc_layers: int = 2,
        channels: tuple[int, ...] = (16, 32),
        residual_blocks: int = 2,
        residual_layers: int = 2,
        kernel: int = 3,
        embedding: int = 16,
        color_embedding: int | None = None,
        summed: bool = True,
        norms: bool = True,
        whole: bool = False,
        frames: int = 1,
        unit_init: bool = False,
        channels_last: bool = True,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        color_embedding = embedding if color_embedding is None else color_embedding
        check_shape(kernel, frames, status_width, summed and embedding != color_embedding)
        self.width, self.summed, self.checkpoint = width, summed, checkpoint
        self.sees_actions = "policy=compact policy.encoder.actions=0"
        self.top, self.rows = (0, ROWS) if whole else (1, MAP_ROWS)
        self.chars = nn.Embedding(256, embedding)
        self.colors = nn.Embedding(128, color_embedding)
        self.message = MessageLine(message_width, norms)
        self.status = StatusLines(status_width // 4, norm=norms)
        self.inventory = InventorySlots(inventory_embedding, inventory_width) if inventory else None
        cell = embedding if summed else embedding + color_embedding
        shape = (residual_blocks, residual_layers, map_fc_layers, map_width, kernel, self.rows)
        self.map = MapEncoder(frames * cell, list(channels), *shape, norms)
        self.crop = Crop(cell, top=self.top, rows=self.rows)
        kinds = [(torch.uint8, ord(" ")), (torch.int8, 0)]
        stacks = [FrameStack(frames, (self.rows, COLUMNS), *kind) for kind in kinds]
        self.stacks = stacks if frames > 1 else []
        joined = [message_width, status_width // 4, inventory_width if inventory else 0]
        joined += [map_width, NUM_ACTIONS, self.crop.features]
        self.fc = mlp([sum(joined)] + [width] * fc_layers, nn.ReLU, norms)
        self.first_layers = ("status.convs.0",)
        """Layers that read raw inputs."""
        self.joins = {"fc.0": tuple(joined)}
        """Layers that read several vectors side by side, and how wide each of these is."""
        self.unit_init = unit_init
        if unit_init:
            unit_layers(m for part in (self.message, self.status, self.fc) for m in part.modules())
            unit_layers(self.map.mlp)
            for block in self.map.blocks:
                first, *residual = (m for m in block.modules() if isinstance(m, nn.Conv2d))
                unit_filters(first)
                for layer in residual:
                    unit_filters(layer, (len(channels) / residual_blocks) ** 0.5)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def initialise_head(self, head: nn.Linear) -> None:
        """Scale the policy's head as the encoder's layers."""
        if self.unit_init:
            unit_layers([head])

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of an encoder of ``width`` for a policy of ``params`` parameters.

        The rule is the first release's: vectors grow with the width, channels with its square root
        below the released 1,024, tables with the parameters.
        """
        small = min(1.0, (width / 1024) ** 0.5)
        return {
            "width": width,
            "message_width": max(1, min(64, round(params / 8 / (COLUMNS * 256)))),
            "status_width": 4 * max(1, round(width / 8)),
            "inventory_width": max(4, round(width / 4)),
            "inventory_embedding": max(1, min(32, round(params / 32 / 5977))),
            "map_width": max(4, round(width / 2)),
            "channels": [scaled(16, small), scaled(32, small)],
            "embedding": max(2, round(16 * small)),
        }

    @property
    def observations(self) -> tuple[str, ...]:
        """Observations a game must provide, as in :class:`~agent_scaling.envs.families.Game`."""
        return ("chars", "colors", "cursor", *(["inv_glyphs"] if self.inventory else []))

    def initial_state(self, lanes: int) -> State:
        """Blank frames of characters and colours [frames − 1, lanes, rows, 80]; nothing for one."""
        return tuple(stack.initial_state(lanes, self.chars.weight.device) for stack in self.stacks)

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """T·B frames and the state → [T, B, width] and the state after the window."""
        chars_TBHW, colors_TBHW, cursor_TB2 = batch.terminal()
        chars_NHW = chars_TBHW.flatten(0, 1)
        rows = slice(self.top, self.top + self.rows)
        map_TBHW = [plane[:, :, rows] for plane in (chars_TBHW, colors_TBHW)]
        seen, after = stack_planes(self.stacks, map_TBHW, batch, state)
        parts = [
            self.message(chars_NHW[:, 0]),
            self.status(chars_NHW[:, 1 + MAP_ROWS :].flatten(1)),
        ]
        if self.inventory:
            parts.append(self.inventory(batch.inventory().flatten(0, 1)))
        again = self.checkpoint and torch.is_grad_enabled()
        parts.append(self.map.recomputed(self.embed, seen) if again else self.map(self.embed(seen)))
        action_N = batch.prev_action_TB.flatten()
        parts.append(F.one_hot(action_N, NUM_ACTIONS).to(parts[0].dtype))
        now = [plane.flatten(0, 1) for plane in map_TBHW]
        cells = self.crop.cells(now, cursor_TB2.flatten(0, 1))
        parts.append(
            self.crop.recomputed(self.embed, cells) if again else self.crop(self.embed(cells))
        )
        features_ND = cast(Tensor, self.fc(torch.cat(parts, dim=1)))
        return features_ND.view(batch.steps, batch.lanes, self.width), after

    def embed(self, planes_NHW: list[Tensor]) -> Tensor:
        """Characters and colours (and frames, as a last axis) → [N, C, H, W], frame by frame."""
        chars, colors = (plane.long() for plane in planes_NHW)
        cells = [look_up(self.chars.weight, chars), look_up(self.colors.weight, colors)]
        joined = cells[0] + cells[1] if self.summed else torch.cat(cells, dim=-1)
        planes = joined.flatten(3).permute(0, 3, 1, 2)
        return planes.contiguous(memory_format=self.memory_format)

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer."""
        parts = (self.message, self.status, self.inventory, self.map, self.crop)
        found = [cost for part in parts if part for cost in part.costs()]
        return [*found, *mlp_costs("fc", self.fc)]


def check_shape(kernel: int, frames: int, status_width: int, unequal: bool) -> None:
    """Refuse numbers that make no network; raises :class:`InputError` with the key."""
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"policy.encoder.kernel={kernel}: must be odd")
    if frames < 1:
        raise InputError(f"policy.encoder.frames={frames}: must be at least 1")
    if status_width < 4:
        raise InputError(f"policy.encoder.status_width={status_width}: must be at least 4")
    if unequal:
        raise InputError("policy.encoder.summed=true: embedding and color_embedding must be equal")
