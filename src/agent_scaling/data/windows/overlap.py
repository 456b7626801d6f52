"""Overlapping windows: each ends with the first frames of the next, or begins with the last of the
one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.envs.screens import NO_GLYPH


class Overlapping:
    """Iterable that extends consecutive windows of T frames to T + ``ahead``; see ``Batch.ahead``.

    A window's content remains a function of its number alone. Blank frames follow the last window
    of a pass.

    Args:
        windows: Windows in order; each iteration starts at the first.
        ahead: Number of frames of the next window, at most its length.
    """

    def __init__(self, windows: Iterable[Batch], ahead: int) -> None:
        self.windows, self.ahead = windows, ahead

    def __iter__(self) -> Iterator[Batch]:
        windows = iter(self.windows)
        window = next(windows, None)
        while window is not None:
            following = next(windows, None)
            yield joined(window, following or blank(window), self.ahead)
            window = following


class Judged:
    """Iterable over windows whose first frames are a past, and no targets.

    Args:
        windows: Windows of :class:`~agent_scaling.data.windows.order.JudgedLanes`.
        before: Frames of each that lose their actions.
    """

    def __init__(self, windows: Iterable[Batch], before: int) -> None:
        self.windows, self.before = windows, before

    def __iter__(self) -> Iterator[Batch]:
        for window in self.windows:
            window.action_TB[: self.before] = NO_ACTION
            yield window


def joined(window: Batch, following: Batch, ahead: int) -> Batch:
    """Append to ``window`` the next one's first ``ahead`` frames, without their actions."""
    head = following.until(ahead)
    pairs = {f.name: (getattr(window, f.name), getattr(head, f.name)) for f in fields(Batch)}
    grown: dict[str, Any] = {
        name: torch.cat(pair) for name, pair in pairs.items() if isinstance(pair[0], Tensor)
    }
    grown["action_TB"][window.steps :] = NO_ACTION
    behind = tuple(window.steps + t for t in head.opening_steps())
    return replace(window, **grown, ahead=ahead, openings=(*window.opening_steps(), *behind))


def blank(window: Batch) -> Batch:
    """Make a window of padding with the same shapes: black screens of no game."""
    empty = window._map(torch.zeros_like)
    glyphs = empty.inv_glyphs_TBI
    return replace(
        empty,
        openings=(),
        game_TB=None if empty.game_TB is None else empty.game_TB - 1,
        inv_glyphs_TBI=None if glyphs is None else glyphs + NO_GLYPH,
    )
