"""Casts: an episode as an asciinema recording (asciicast v2), with the policy's odds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.color import ColorSystem
from rich.control import Control

from agent_scaling.envs.screens import COLUMNS, ROWS
from agent_scaling.playing.replays.frames import Frames
from agent_scaling.playing.replays.screen import (
    BACKGROUND,
    FOREGROUND,
    PALETTE,
    PRINTABLE,
    cell_style,
)

FRAMES_PER_SECOND = 10
ERASE_LINE = "\x1b[K"
CLEAR = "\x1b[2J\x1b[H"


def cast(title: str, frames: Frames, trace: npt.NDArray[Any], actions: Sequence[str]) -> str:
    """Return the recording (https://docs.asciinema.org/manual/asciicast/v2/).

    The terminal has two lines more than the game's screen: the position in the episode, and the
    five most probable actions.

    Args:
        title: Title of the recording.
        frames: Frames of the episode.
        trace: [steps] of :data:`agent_scaling.playing.actor.TRACE`.
        actions: Names of the actions.
    """
    header = {
        "version": 2,
        "width": COLUMNS,
        "height": ROWS + 2,
        "title": title,
        "theme": {"fg": FOREGROUND, "bg": BACKGROUND, "palette": ":".join(PALETTE)},
    }
    lines = [json.dumps(header)]
    for step, drawn in enumerate(_drawn(frames)):
        row, column = frames.cursor_T2[step].tolist()
        thought = _thought(step, frames, trace[step], actions)
        text = (CLEAR if step == 0 else "") + drawn + thought + _move(row, column)
        lines.append(json.dumps([step / FRAMES_PER_SECOND, "o", text]))
    return "\n".join(lines) + "\n"


def _drawn(frames: Frames) -> Iterator[str]:
    """Yield the escape sequences that draw each frame over the one before."""
    for cells, chars, colors in frames.changes():
        pieces = []
        # Neighbours of one colour form a piece: they share row, colour, and cell minus position.
        keys = zip(cells.tolist(), chars.tolist(), colors.tolist(), range(len(cells)), strict=True)
        for (row, color, _), run in groupby(
            keys, key=lambda cell: (cell[0] // COLUMNS, cell[2], cell[0] - cell[3])
        ):
            first, *rest = run
            text = "".join(PRINTABLE[cell[1]] for cell in (first, *rest))
            before, after = _codes(color)
            pieces.append(f"{_move(row, first[0] % COLUMNS)}{before}{text}{after}")
        yield "".join(pieces)


def _thought(step: int, frames: Frames, row: np.void, actions: Sequence[str]) -> str:
    """Return the two lines below the screen."""
    place = (
        f"step {step} · turn {frames.turn_T[step]} · score {frames.score_T[step]} · "
        f"entropy {row['nats']:.2f} nats · takes {actions[row['action']]}"
    )
    likely = "  ".join(
        f"{actions[action]} {probability:.0%}"
        for action, probability in zip(row["top"][: len(actions)], row["probability"], strict=False)
    )
    return "".join(
        f"{_move(ROWS + line, 0)}{text[:COLUMNS]}{ERASE_LINE}"
        for line, text in enumerate((place, likely))
    )


@cache
def _codes(color: int) -> tuple[str, str]:
    """Return the escape codes that turn a colour on and off."""
    drawn = cell_style(color).render("x", color_system=ColorSystem.STANDARD)
    before, _, after = drawn.partition("x")
    return before, after


def _move(row: int, column: int) -> str:
    return str(Control.move_to(column, row))
