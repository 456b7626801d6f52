"""A screen encoder whose FLOPs per frame grow with its parameters: about two for each.

The paper's convolutions over the whole map cost hundreds of FLOPs per parameter where they are
narrow. Here the cells next to the cursor are read one by one, those farther away in patches, text
as bags of its pieces; and the last actions go past all layers to the logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.policies.costs import LayerCost, linear_cost
from agent_scaling.policies.encoders.cells import CellTable, PatchConv, Window, pairs_of
from agent_scaling.policies.encoders.inventory import ITEMS, Inventory
from agent_scaling.policies.encoders.moves import Moves
from agent_scaling.policies.encoders.recent import RecentActions
from agent_scaling.policies.encoders.recompute import recomputed
from agent_scaling.policies.encoders.screen import MAP_ROWS
from agent_scaling.policies.encoders.text import TextBag
from agent_scaling.runtime.errors import InputError

State = tuple[Tensor, ...]
FAR = (3, 9, 7, 7)
"""Rows and columns of a patch, and how many patches are read below each other and side by side."""


class CompactEncoder(nn.Module):
    """A frame of the terminal and the last actions → [N, ``width``].

    Args:
        width: Features that the core and the heads read.
        cell: Width of a cell's vector.
        near: Rows and columns of the cells around the cursor that are read one by one.
        far: See cells farther away, in patches.
        channels: Channels of a patch.
        hidden: Width of the layer behind the parts.
        text: Read the message and the status lines.
        text_rows: Rows of either's table of pieces.
        text_width: Width of the text's vectors.
        actions: Number of last actions that are seen; 0 for none.
        moves: See the cursor's move since the previous frame.
        inventory: See the glyphs of carried items, which few recordings have.
        inventory_width: Width of the inventory's two layers.
        checkpoint: Have the backward pass compute the encoder's activations again, in place of
            keeping them.
    """

    def __init__(
        self,
        width: int = 64,
        cell: int = 8,
        near: int = 9,
        far: bool = False,
        channels: int = 8,
        hidden: int = 256,
        text: bool = True,
        text_rows: int = 1024,
        text_width: int = 32,
        actions: int = 1,
        moves: bool = False,
        inventory: bool = False,
        inventory_width: int = 32,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if min(width, near) < 1 or actions < 0:
            raise InputError(
                f"policy.encoder: width={width} and near={near}: at least 1; actions={actions}: "
                "at least 0"
            )
        self.width, self.checkpoint = width, checkpoint
        self.cells = CellTable(cell)
        self.near = Window(1, 1, near, near)
        self.far = Window(*FAR) if far else None
        self.patches = PatchConv(self.cells, FAR[0] * FAR[1], channels) if far else None
        self.message = TextBag(text_rows, text_width) if text else None
        self.status = TextBag(text_rows, text_width) if text else None
        joined = [near**2 * cell, FAR[2] * FAR[3] * channels if far else 0]
        joined += [text_width if text else 0] * 2
        self.inventory = Inventory(inventory_width) if inventory else None
        joined += [inventory_width] if inventory else []
        self.joined = sum(joined)
        self.joins = {"enter": tuple(joined)}
        self.enter = nn.Linear(self.joined, width)
        self.norm = nn.RMSNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.sees_actions = "policy.encoder.actions=0" if actions else ""
        self.recent = RecentActions(actions, NUM_ACTIONS, width) if actions else None
        self.moves = Moves(width) if moves else None
        self.out_norm = nn.RMSNorm(width)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of an encoder of ``width`` for a policy of ``params`` parameters."""
        root, text_width = round(width**0.5), max(4, width // 2)
        return {
            "width": width,
            "hidden": 4 * width,
            "cell": min(32, max(2, root)),
            "channels": min(32, max(2, root)),
            "text_rows": min(65_536, max(32, round(params / 16 / text_width))),
            "text_width": text_width,
            "inventory_width": max(1, min(text_width, round(params / 16 / len(ITEMS)))),
        }

    @property
    def observations(self) -> tuple[str, ...]:
        """Observations a game must provide, as in :class:`~agent_scaling.envs.families.Game`."""
        return ("chars", "colors", "cursor", *(["inv_glyphs"] if self.inventory else []))

    def initial_state(self, lanes: int) -> State:
        """The actions before the latest, [actions − 1, lanes], and the cursor [1, lanes, 2], where
        they are seen."""
        stacks = [part.stack for part in (self.recent, self.moves) if part is not None]
        return tuple(stack.initial_state(lanes, self.cells.chars.device) for stack in stacks)

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """T·B frames and the state → [T, B, width] and the state after the window."""
        chars_TBHW, colors_TBHW, cursor_TB2 = batch.terminal()
        seen = [plane.flatten(0, 1) for plane in (chars_TBHW, colors_TBHW, cursor_TB2)]
        if self.inventory is not None:
            seen.append(batch.inventory().flatten(0, 1))
        if self.checkpoint and torch.is_grad_enabled():
            x_ND = recomputed(self._read, [self], *seen)
        else:
            x_ND = self._read(*seen)
        features_TBD = x_ND.view(batch.steps, batch.lanes, self.width)
        after: list[Tensor] = []
        stacked = [part for part in (self.recent, self.moves) if part is not None]
        for part, before in zip(stacked, state, strict=True):
            vectors_TBD, then = part(batch, before)
            features_TBD, after = features_TBD + vectors_TBD, [*after, then]
        return features_TBD, tuple(after)

    def _read(
        self, chars_NHW: Tensor, colors_NHW: Tensor, cursor_N2: Tensor, *inventory_NI: Tensor
    ) -> Tensor:
        """Frames → [N, width], without last actions and moves."""
        rows = slice(1, 1 + MAP_ROWS)
        pairs_NHW = pairs_of(chars_NHW[:, rows], colors_NHW[:, rows])
        near_NP = self.near(pairs_NHW, cursor_N2).flatten(1)
        frames = len(near_NP)
        parts = [self.cells.of(near_NP.flatten()).view(frames, -1)]
        if self.far is not None and self.patches is not None:
            parts.append(self.patches(self.cells, self.far(pairs_NHW, cursor_N2)).flatten(1))
        if self.message is not None and self.status is not None:
            parts.append(self.message(chars_NHW[:, 0]))
            parts.append(self.status(chars_NHW[:, 1 + MAP_ROWS :].flatten(1)))
        if self.inventory is not None:
            parts.append(self.inventory(*inventory_NI))
        x_ND = self.enter(torch.cat(parts, dim=1))
        x_ND = x_ND + self.down(F.relu(self.up(self.norm(x_ND))).square())
        normed_ND: Tensor = self.out_norm(x_ND)
        return normed_ND

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer."""
        found: list[LayerCost] = []
        if self.far is not None and self.patches is not None:
            found.append(self.patches.costs("patches.linear", self.far.patches))
        if self.message is not None and self.status is not None:
            found += [self.message.costs("message"), self.status.costs("status")]
        if self.inventory is not None:
            found += self.inventory.costs()
        found.append(linear_cost("enter", self.joined, self.width))
        found.append(linear_cost("up", self.width, self.up.out_features))
        found.append(linear_cost("down", self.up.out_features, self.width))
        return found
