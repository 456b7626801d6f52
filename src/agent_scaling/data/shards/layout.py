"""The layout of a game family's frames in shards, and the meaning of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from agent_scaling.envs.actions import action_to_key
from agent_scaling.envs.screens import COLUMNS, INVENTORY_SLOTS, ROWS, SIDE

ABSENT = 255
"""Entry of a table of actions that stands for no action."""

Side = Annotated[int, Field(ge=1, lt=1 << 16)]
Byte = Annotated[int, Field(ge=0, le=255)]
Plane = tuple[tuple[str, Literal["|u1", "|i1", "<i2"], tuple[Side, ...]], ...]
"""Observations that are interleaved frame by frame: name, dtype, shape of each."""
VERSION, INVENTORY_VERSION = 2, 3
"""Format of shards; the second where the inventory is in them, which older programs refuse."""


@dataclass(frozen=True)
class Layout:
    """The layout of a game's frames in a chunk; part of the manifest.

    A chunk has the planes one after another, each over all n frames; then ``key`` u8, ``decision``
    u8, ``score`` i32, in labelled shards ``probability`` u8 (of the key, in 255ths), and one byte:
    the key before the chunk's first frame. Raises ValueError for no planes or repeated names.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    game: str
    """The game family, ``nethack`` or ``atari``."""
    planes: Annotated[tuple[Plane, ...], Field(min_length=1)]
    keys: Annotated[tuple[Byte, ...], Field(min_length=1, max_length=255)]
    """The byte of each action; a byte that appears twice means the first of its actions."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the recorded game, as its class in ``envs`` takes them."""
    labelled: bool = False
    """True where keys are a model's labels, each with its probability."""

    def __post_init__(self) -> None:
        names = [name for plane in self.planes for name, _, _ in plane]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"planes: {names} is empty or names one twice")

    @cached_property
    def shown(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name of each observation → (shape of one frame, dtype)."""
        return {name: (shape, dtype) for plane in self.planes for name, dtype, shape in plane}

    @cached_property
    def bytes_per_frame(self) -> int:
        """Bytes per frame: planes, key, decision, score and, in labelled shards, probability."""
        return sum(map(plane_bytes, self.planes)) + 6 + self.labelled

    @property
    def version(self) -> int:
        """Format version of shards with this layout."""
        wide = any(dtype == "<i2" for plane in self.planes for _, dtype, _ in plane)
        return INVENTORY_VERSION if wide else VERSION

    @cached_property
    def action_of_key(self) -> npt.NDArray[np.uint8]:
        """[256]: index of each byte's action, :data:`ABSENT` for bytes without one."""
        table = np.full(256, ABSENT, np.uint8)
        for index, key in reversed(list(enumerate(self.keys))):
            table[key] = index
        return table

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON values, for the manifest."""
        planes = [[[name, dtype, list(shape)] for name, dtype, shape in p] for p in self.planes]
        found = {
            "game": self.game,
            "planes": planes,
            "keys": list(self.keys),
            "options": dict(self.options),
        }
        return found | {"labelled": True} if self.labelled else found

    def shows_as(self, other: Layout) -> bool:
        """Return True where both have the same game, frames and keys, labelled or not."""
        return (self.game, self.planes, self.keys) == (other.game, other.planes, other.keys)

    def __str__(self) -> str:
        planes = ["+".join(f"{name}:{dtype}" for name, dtype, _ in plane) for plane in self.planes]
        label = "probability:|u1," if self.labelled else ""
        return ",".join([*planes, f"key:|u1,decision:|u1,score:<i4,{label}previous_key:|u1"])


NETHACK = Layout(
    game="nethack",
    # Interleaved, chars and colors take 8 % fewer bytes than in two planes and decode as fast.
    planes=(
        (("chars", "|u1", (ROWS, COLUMNS)), ("colors", "|i1", (ROWS, COLUMNS))),
        (("cursor", "|u1", (2,)),),
    ),
    keys=tuple(action_to_key().tolist()),
)


NETHACK_INVENTORY = replace(
    NETHACK, planes=(*NETHACK.planes, (("inv_glyphs", "<i2", (INVENTORY_SLOTS,)),))
)
"""NetHack's layout with the glyphs of the inventory."""


def plane_bytes(plane: Plane) -> int:
    """Return a plane's bytes per frame."""
    return sum(prod(shape) * np.dtype(dtype).itemsize for _, dtype, shape in plane)


def atari_layout(codes: tuple[int, ...], options: Mapping[str, Any]) -> Layout:
    """Make the layout of single grey Atari frames; keys are ALE's codes of the actions."""
    return Layout("atari", ((("frame", "|u1", (SIDE, SIDE)),),), codes, options)
