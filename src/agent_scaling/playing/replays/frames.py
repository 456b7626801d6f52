"""A terminal's screens, kept as changes from each to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nle import nethack

from agent_scaling.envs.screens import COLUMNS, ROWS
from agent_scaling.playing.replays.replay import Frame

SHOWN = ("chars", "colors", "cursor", "blstats")
"""The game's observations that a frame is made of."""


@dataclass(frozen=True)
class Frames:
    """An episode's frames as changes from each to the next, the first from a blank screen.

    Indices count the cells of the 24×80 screen row by row. Within a frame they ascend, and each is
    stored as the difference from the one before.
    """

    counts_T: npt.NDArray[np.uint16]
    gaps: npt.NDArray[np.uint16]
    chars: npt.NDArray[np.uint8]
    colors: npt.NDArray[np.uint8]
    cursor_T2: npt.NDArray[np.uint8]
    turn_T: npt.NDArray[np.uint32]
    score_T: npt.NDArray[np.uint32]

    def changes(
        self,
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
        """Yield each frame's changed cells, with their new characters and colours."""
        end = 0
        for count in self.counts_T.tolist():
            begin, end = end, end + count
            cells = np.cumsum(self.gaps[begin:end], dtype=np.int64)
            yield cells, self.chars[begin:end], self.colors[begin:end]


def encode_frames(frames: Iterable[Frame]) -> Frames:
    """Encode the frames as their changes."""
    chars = np.full(ROWS * COLUMNS, ord(" "), np.uint8)
    colors = np.zeros(ROWS * COLUMNS, np.uint8)
    parts: dict[str, list[npt.NDArray[Any]]] = {"gaps": [], "chars": [], "colors": []}
    counts, cursors, turns, scores = [], [], [], []
    for frame in frames:
        new_chars, new_colors = frame["chars"].ravel(), frame["colors"].ravel().view(np.uint8)
        changed = np.flatnonzero((new_chars != chars) | (new_colors != colors))
        parts["gaps"].append(np.diff(changed, prepend=0).astype(np.uint16))
        parts["chars"].append(new_chars[changed])
        parts["colors"].append(new_colors[changed])
        chars, colors = new_chars.copy(), new_colors.copy()
        counts.append(len(changed))
        cursors.append(frame["cursor"].copy())
        turns.append(int(frame["blstats"][nethack.NLE_BL_TIME]))
        scores.append(max(0, int(frame["blstats"][nethack.NLE_BL_SCORE])))
    joined = {name: np.concatenate(rows) for name, rows in parts.items()}
    return Frames(
        counts_T=np.array(counts, np.uint16),
        cursor_T2=np.array(cursors, np.uint8),
        turn_T=np.array(turns, np.uint32),
        score_T=np.array(scores, np.uint32),
        **joined,
    )
