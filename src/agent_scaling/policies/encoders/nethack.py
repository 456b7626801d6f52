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

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.screens import COLUMNS
from agent_scaling.policies.costs import LayerCost
from agent_scaling.policies.encoders.inventory import ITEMS, Inventory
from agent_scaling.policies.encoders.lines import MessageLine, StatusLines, mlp, mlp_costs, scaled
from agent_scaling.policies.encoders.lookup import LEAST_CHANNELS, LookupConv, look_up
from agent_scaling.policies.encoders.moves import Moves
from agent_scaling.policies.encoders.screen import MAP_ROWS, Crop, MapEncoder
from agent_scaling.policies.encoders.stack import FrameStack, stack_planes
from agent_scaling.runtime.errors import InputError

State = tuple[Tensor, ...]


class NetHackEncoder(nn.Module):
    """A frame of the terminal and the previous action → [N, ``width``].

    Args:
        width: Features of the last layer, which the core reads (the release's ``h_dim``).
        message_width: Width of the message line's two layers (``msg_hdim``); 0 leaves it out.
        status_width: The status lines' MLP has a quarter of this (``blstats_hdim``); below 4, they
            are left out.
        status_scale: Multiplies the status lines' channels.
        map_width: Width of the map's layers (``fc_after_cnn_hdim``).
        map_fc_layers: Layers after the map's convolutions (``num_screen_fc_layers``).
        fc_layers: Layers before the core (``num_fc_layers``).
        blocks: Convolution blocks over the map, of 16, 32, 32, … channels times ``channel_scale``.
        residual_blocks: Residual blocks in each convolution block.
        residual_layers: Convolutions in each residual block.
        channel_scale: Multiplies the map's channels.
        crop: See the window around the cursor.
        crop_norm: BatchNorm in the crop's convolutions.
        crop_scale: Multiplies the crop's channels.
        embedding: Width of a character's embedding, and of a colour's.
        colors: Give the map and the crop colours; otherwise characters alone.
        frames: Frames of the map that are seen, the current one included (``obs_frame_stack``). All
            else is of the current frame, as in the release.
        moves: See the cursor's move since the previous frame.
        prev_action: See the previous action, as a one-hot vector.
        inventory: See the glyphs of carried items, which few recordings have.
        inventory_width: Width of the inventory's two layers.
        channels_last: Run convolutions channels-last, about 1.25 times as fast on a CPU. Rounding
            then differs from cell to cell, which breaks ties between equal cells in the pooling at
            random: gradients agree with the release to 1e-6 without it, and to some 1e-3 with it.
        checkpoint: Have the backward pass compute the encoder's activations again, in place of
            keeping them.
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
        colors: bool = True,
        frames: int = 1,
        moves: bool = False,
        prev_action: bool = True,
        inventory: bool = False,
        inventory_width: int = 64,
        channels_last: bool = True,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if frames < 1:
            raise InputError(f"policy.encoder.frames={frames}: must be at least 1")
        channels = [scaled(c, channel_scale) for c in ([16] + [32] * (blocks - 1))]
        self.width, self.checkpoint = width, checkpoint
        self.chars = nn.Embedding(256, embedding)
        self.colors = nn.Embedding(128, embedding) if colors else None
        self.message = MessageLine(message_width) if message_width else None
        self.status = StatusLines(status_width // 4, status_scale) if status_width >= 4 else None
        residual, cell = (residual_blocks, residual_layers), embedding * (2 if colors else 1)
        self.map = MapEncoder(frames * cell, channels, *residual, map_fc_layers, map_width)
        self.lookup: LookupConv | None = None
        self.crop = Crop(cell, crop_norm, crop_scale) if crop else None
        self.num_actions = NUM_ACTIONS if prev_action else 0
        self.sees_actions = "policy.encoder.prev_action=false" if prev_action else ""
        self.inventory = Inventory(inventory_width) if inventory else None
        kinds = [(torch.uint8, ord(" ")), (torch.int8, 0)][: 2 if colors else 1]
        stacks = [FrameStack(frames, (MAP_ROWS, COLUMNS), *kind) for kind in kinds]
        self.stacks = stacks if frames > 1 else []
        self.moves = Moves(width) if moves else None
        crop_width = self.crop.features if self.crop else 0
        joined = [message_width, status_width // 4, map_width, self.num_actions, crop_width]
        joined.append(inventory_width if inventory else 0)
        self.fc = mlp([sum(joined)] + [width] * fc_layers, nn.ReLU)
        self.first_layers = ("status.convs.0",)
        """Layers that read raw inputs."""
        self.joins = {"fc.0": tuple(joined)}
        """Layers that read several vectors side by side, and how wide each of these is."""
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
        table gets an eighth of the parameters, up to 128 columns, and none below 82 thousand; the
        inventory's, where there is one, a sixteenth.
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
            "inventory_width": max(1, min(128, round(params / 16 / len(ITEMS)))),
        }

    @property
    def observations(self) -> tuple[str, ...]:
        """Observations a game must provide, as in :class:`~agent_scaling.envs.families.Game`."""
        return ("chars", "colors", "cursor", *(["inv_glyphs"] if self.inventory else []))

    def initial_state(self, lanes: int) -> State:
        """Per plane of the map: blank frames [frames − 1, lanes, 21, 80], nothing for one frame;
        and the cursor [1, lanes, 2], where its moves are seen."""
        stacks = [*self.stacks, *([self.moves.stack] if self.moves else [])]
        device = self.chars.weight.device
        return tuple(stack.initial_state(lanes, device) for stack in stacks)

    def prepare_inference(self) -> None:
        """On a CPU, look up the map's first convolution from now on, where that is faster."""
        first = cast(nn.Sequential, self.map.blocks[0])
        conv = cast(nn.Conv2d, first[0])
        tables = [self.chars, self.colors] if self.colors else [self.chars]
        on_cpu = self.chars.weight.device.type == "cpu"
        gains = len(tables) > 1 or conv.out_channels >= LEAST_CHANNELS
        if not self.stacks and on_cpu and gains:
            self.lookup = LookupConv(tables, conv)
            first[0] = nn.Identity()

    def embed(self, planes_NHW: list[Tensor]) -> Tensor:
        """Cells of each plane (and frame, as a last axis) → [N, C, H, W], frame by frame.

        The planes' vectors are looked up side by side in one table, and channels-last: neither
        costs a copy.
        """
        tables = [self.chars, self.colors] if self.colors else [self.chars]
        firsts = (0, self.chars.num_embeddings)  # rows at which the tables begin
        rows = [plane.long() + first for plane, first in zip(planes_NHW, firsts, strict=False)]
        joined = look_up(torch.cat([table.weight for table in tables]), torch.stack(rows, dim=-1))
        vectors_NCHW = joined.flatten(3).permute(0, 3, 1, 2)
        return vectors_NCHW.contiguous(memory_format=self.memory_format)

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """T·B frames and the state → [T, B, width] and the state after the window."""
        chars_TBHW, colors_TBHW, cursor_TB2 = batch.terminal()
        chars_NHW = chars_TBHW.flatten(0, 1)
        planes_TBHW = [chars_TBHW, colors_TBHW][: 2 if self.colors else 1]
        map_TBHW = [plane[:, :, 1 : 1 + MAP_ROWS] for plane in planes_TBHW]
        seen, after = stack_planes(self.stacks, map_TBHW, batch, state[: len(self.stacks)])
        parts = [self.message(chars_NHW[:, 0])] if self.message else []
        if self.status:
            parts.append(self.status(chars_NHW[:, 1 + MAP_ROWS :].flatten(1)))
        again = self.checkpoint and torch.is_grad_enabled()
        if again:
            parts.append(self.map.recomputed(self.embed, seen))
        else:
            parts.append(self.map(self.embed(seen) if self.lookup is None else self.lookup(seen)))
        if self.num_actions:
            action_N = batch.prev_action_TB.flatten()
            parts.append(F.one_hot(action_N, self.num_actions).to(parts[0].dtype))
        if self.crop:
            map_NHW = [plane.flatten(0, 1) for plane in map_TBHW]
            cells = self.crop.cells(map_NHW, cursor_TB2.flatten(0, 1))
            parts.append(
                self.crop.recomputed(self.embed, cells) if again else self.crop(self.embed(cells))
            )
        if self.inventory:
            parts.append(self.inventory(batch.inventory().flatten(0, 1)))
        features_ND = cast(Tensor, self.fc(torch.cat(parts, dim=1)))
        features_TBD = features_ND.view(batch.steps, batch.lanes, self.width)
        if self.moves:
            moves_TBD, cursor = self.moves(batch, state[-1])
            features_TBD, after = features_TBD + moves_TBD, (*after, cursor)
        return features_TBD, after

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer."""
        parts = (self.message, self.status, self.map, self.crop, self.inventory)
        found = [cost for part in parts if part for cost in part.costs()]
        return [*found, *mlp_costs("fc", self.fc)]
