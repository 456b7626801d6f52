"""The Batch, the one data structure that all parts exchange, and the legend of its axes.

The suffix of a tensor's name lists its axes: T unroll steps, time-major · B lanes · H rows ·
W columns (24×80 characters of NetHack's terminal, 84×84 pixels of Atari) · A actions
(NetHack: 121) · D a feature width · I inventory slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from agent_scaling.envs.screens import COLUMNS, INVENTORY_SLOTS, NO_GLYPH, ROWS, SIDE
from agent_scaling.runtime.errors import InputError

FIELDS = {
    "chars": "chars_TBHW",
    "colors": "colors_TBHW",
    "cursor": "cursor_TB2",
    "inv_glyphs": "inv_glyphs_TBI",
    "frame": "frame_TBHW",
}
"""Name of an observation of :class:`~agent_scaling.envs.families.Game` → field of a Batch."""
PINNED = ("cuda",)
"""Types of devices that read page-locked memory while the host goes on."""


def shown_fields(shown: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a Batch's keyword arguments for a game's observations; unknown names are left out."""
    return {FIELDS[name]: tensor for name, tensor in shown.items() if name in FIELDS}


@dataclass(slots=True)
class Played:
    """Facts about an unroll that only the actors who played it know."""

    state: Any
    """The actors' policy state before frame 0: tensors, whose axis 1 is the lane."""
    updates: int
    """Updates that the learner had made when the unroll began."""
    episodes: list[dict[str, Any]]
    """Records of the episodes that ended in the unroll."""
    restarted: int = 0
    """Episodes that were abandoned and restarted, because a worker was lost or the run resumed."""


@dataclass(slots=True)
class Batch:
    """T consecutive frames of B lanes, with the expert's action at each.

    Time alignment: the expert saw frame ``t`` and then pressed ``action_TB[t]``; the key pressed
    before frame ``t`` was seen is ``prev_action_TB[t]``.

    An unroll that actors played has one frame more than actions. Its last frame, with which the
    next unroll begins, serves to bootstrap the value; its action is -100. Action ``t`` ended its
    episode where ``first_TB[t + 1]`` is True. The action is -100, too, where nothing follows frame
    ``t``: at the last frame of a game that was cut off (it serves to bootstrap the value, and the
    next frame opens another game), and where a game was lost with its worker.
    """

    prev_action_TB: Tensor
    """int64: index of the action before frame t; 0 at a game's first frame."""
    action_TB: Tensor
    """int64: index of the expert's action; -100 where there is none (padding, keys that the
    environment pressed by itself, data without actions)."""
    first_TB: Tensor
    """bool: True where the core's state is reset before frame t, because a game or a lane opens."""
    chars_TBHW: Tensor | None = None
    """uint8: the terminal's characters. NetHack has this and the next two, see :meth:`terminal`."""
    colors_TBHW: Tensor | None = None
    """int8: the terminal's colours."""
    cursor_TB2: Tensor | None = None
    """uint8: the cursor's [row, column]."""
    frame_TBHW: Tensor | None = None
    """uint8: Atari's grey screen of frame t alone; encoders stack frames."""
    probability_TB: Tensor | None = None
    """float32: probability that the labelling model gave ``action_TB[t]``, 0 where that is -100;
    None where the keys are the player's own."""
    score_TB: Tensor | None = None
    """int32: the in-game score shown with frame t."""
    inv_glyphs_TBI: Tensor | None = None
    """int16: glyphs of the inventory, NO_GLYPH in an empty slot; None where the data have none."""
    game_TB: Tensor | None = None
    """int64: index of frame t's game in the data set; -1 in padding."""
    reward_TB: Tensor | None = None
    """float32: the reward of ``action_TB[t]``, as the game gives it; 0 at the last frame."""
    behaviour_logits_TBA: Tensor | None = None
    """float32: logits from which ``action_TB[t]`` was drawn; 0 at the last frame."""
    played: Played | None = None
    """Facts about an unroll that actors played; None for other batches."""
    ahead: int = 0
    """Frames at the window's end with which the next window begins. Inverse dynamics reads them as
    future frames; their action is -100. The state passed to the next window is the one before
    them."""
    openings: tuple[int, ...] | None = None
    """Steps at which a game opens in any lane, where the batch's maker knows them on the host;
    computing them on the device would synchronise with it."""
    skipped: int = 0
    """Number of frames padded because their chunk is damaged, see ``data.on_corrupt``."""

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return self.first_TB.shape[0]

    @property
    def lanes(self) -> int:
        """B, the number of lanes."""
        return self.first_TB.shape[1]

    def terminal(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return NetHack's characters, colours and cursor.

        Raises:
            InputError: The frames are of another game.
        """
        if self.chars_TBHW is None or self.colors_TBHW is None or self.cursor_TB2 is None:
            raise InputError("the policy reads NetHack's terminal, the data are of another game")
        return self.chars_TBHW, self.colors_TBHW, self.cursor_TB2

    def inventory(self) -> Tensor:
        """Return the inventory's glyphs.

        Raises:
            InputError: The data have none.
        """
        if self.inv_glyphs_TBI is None:
            raise InputError("the data have no inv_glyphs: set policy.encoder.inventory=false")
        return self.inv_glyphs_TBI

    def until(self, steps: int) -> Batch:
        """Return the first ``steps`` steps."""
        return self.between(0, steps)

    def between(self, begin: int, end: int) -> Batch:
        """Return the steps from ``begin`` to before ``end``.

        What is known of the whole batch alone stays with its first steps.
        """
        openings = self.openings
        if openings is not None:
            openings = tuple(t - begin for t in openings if begin <= t < end)
        skipped = 0 if begin else self.skipped
        cut = replace(self, openings=openings, played=None, skipped=skipped)
        return cut._map(lambda tensor: tensor[begin:end])

    def opening_steps(self) -> tuple[int, ...]:
        """Return the steps t at which any lane has ``first_TB[t]``, ascending."""
        if self.openings is None:
            return tuple(self.first_TB.any(dim=1).nonzero().flatten().tolist())
        return self.openings

    def to(self, device: torch.device | str) -> Batch:
        """Move the batch to a device.

        The host goes on at once where a GPU can read its memory, so a copy to a GPU begins in
        page-locked memory.
        """
        if torch.device(device).type not in PINNED:
            return self._map(lambda tensor: tensor.to(device))
        return self._map(lambda tensor: pinned(tensor).to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, from which copies to a GPU can be asynchronous."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {
            f.name: fn(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        if self.played is not None:
            moved["played"] = replace(self.played, state=tree_map(fn, self.played.state))
        return replace(self, **moved)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in page-locked memory, if it is in the host's; torch keeps it until it is read."""
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def blank_batch(steps: int, lanes: int, device: torch.device | str = "cpu") -> Batch:
    """Make a batch of every game's empty screens, without actions, to trace and count costs."""
    screen = (steps, lanes, ROWS, COLUMNS)
    return Batch(
        chars_TBHW=torch.full(screen, ord(" "), dtype=torch.uint8, device=device),
        colors_TBHW=torch.zeros(screen, dtype=torch.int8, device=device),
        cursor_TB2=torch.zeros((steps, lanes, 2), dtype=torch.uint8, device=device),
        frame_TBHW=torch.zeros((steps, lanes, SIDE, SIDE), dtype=torch.uint8, device=device),
        prev_action_TB=torch.zeros((steps, lanes), dtype=torch.int64, device=device),
        action_TB=torch.full((steps, lanes), -100, dtype=torch.int64, device=device),
        first_TB=torch.zeros((steps, lanes), dtype=torch.bool, device=device),
        inv_glyphs_TBI=torch.full(
            (steps, lanes, INVENTORY_SLOTS), NO_GLYPH, dtype=torch.int16, device=device
        ),
    )
