"""The game's 24×80 screen in a terminal's colours: for replays, casts and live play."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.style import Style
from rich.text import Text

from agent_scaling.envs.screens import ROWS

FOREGROUND, BACKGROUND = "#d6d9de", "#000000"
PALETTE = (
    "#555d68", "#d0504b", "#4fae5a", "#b98a3a", "#5583e0", "#b565c9", "#3fb0b0", "#c6cad1",
    "#7b838f", "#ff9e64", "#8ff08f", "#ffe66d", "#82b1ff", "#ff8ef0", "#7df3f3", "#ffffff",
)  # fmt: skip
"""The terminal's 16 colours. Black (0) is grey: NetHack draws with it on black."""
REVERSED = 16  # NLE's colours from here on are the same 16 in reverse video

PRINTABLE = "".join(chr(c) if 32 <= c < 127 or c >= 160 else " " for c in range(256))
"""Character byte → printable character; control characters become blanks."""


@cache
def cell_style(color: int) -> Style:
    """Return a cell's style in the 16 colours of the terminal that shows it."""
    return Style(color=Color.from_ansi(color % REVERSED), reverse=color >= REVERSED)


@cache
def palette_style(color: int, cursor: bool = False) -> Style:
    """Return a cell's style in the colours of :data:`PALETTE`; the cursor reverses it."""
    reverse = (color >= REVERSED) != cursor
    return Style(color=PALETTE[color % REVERSED], bgcolor=BACKGROUND, reverse=reverse)


def screen_text(
    chars_HW: npt.NDArray[np.uint8],
    colors_HW: npt.NDArray[np.int8],
    cursor: tuple[int, int],
) -> Text:
    """Return the screen with its cursor (row, column) as rich text of 24 lines."""
    text = Text(no_wrap=True, end="")
    for row in range(ROWS):
        cells = [
            (palette_style(int(color), (row, column) == cursor), PRINTABLE[char])
            for column, (char, color) in enumerate(zip(chars_HW[row], colors_HW[row], strict=True))
        ]
        for style, run in groupby(cells, key=lambda cell: cell[0]):
            text.append("".join(char for _, char in run), style)
        text.append("\n" if row < ROWS - 1 else "")
    return text
