"""Which frames of an NLE recording a player answered, and which NLE answered by itself.

NLE presses keys of its own in three places (``nle/env/base.py``), and records them like any other:

1. ``reset`` presses SPACE until NetHack's main loop runs: the ``--More--`` of the welcome.
2. Once the game is over (``program_state.gameover``), ``_perform_known_steps`` presses SPACE or ESC
   through the disclosure: the message on the screen, the inventory, the attributes, the vanquished,
   the conduct, the dungeon, the tombstone. After the last screen there is nothing left to answer.
3. At the step cap or without progress, ``_quit_game`` first clears what is on the screen with
   SPACE and ESC, then presses M-q and y; then the disclosure follows as in 2.

The screens tell these apart. NetHack sets ``gameover`` after it has written the message of the
death to the top line and before it asks for the ``--More--`` that closes that line, so that exactly
one such ``--More--`` frame comes before the disclosure, none if the last key was an answer to
"Really quit?". What a shopkeeper or a vault takes is said after that and may add a line of its own.
For the 51 reference games this gives exactly the environment's own count of steps. One thing no
screen tells: if the cap comes at a ``--More--`` and the death is behind it, the SPACE by which NLE
cleared it reads as the player's, so that the game counts one decision too many.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

SPACE, ESC, YES, META_Q = 32, 27, ord("y"), 0x80 | ord("q")

MORE = b"--More--"
ATTRIBUTES = re.compile(rb"'s? attributes: *(?:\||$)")
PAGE = re.compile(rb"\((\d+) of (\d+)\)")
LAST_PAGE = b"(end)"
POSTHUMOUS = re.compile(rb"^[^.!]*(all your possessions|owed|looks at your corpse|Memory Vault)")
PROMPT = re.compile(rb"--More--|\(end\)|\(\d+ of \d+\)|\[[^]]*\]|\? *\|")

Screens = npt.NDArray[np.uint8]


def _text(screen: npt.NDArray[np.uint8]) -> bytes:
    """The screen's rows with ``|`` after each: one string for all patterns."""
    return b"|".join(row.tobytes() for row in screen) + b"|"


def _has_more(screen: npt.NDArray[np.uint8]) -> bool:
    return MORE in screen.tobytes()  # rows run on: the word may wrap at column 80


def opening_frames(chars: Screens, key: npt.NDArray[np.uint8]) -> int:
    """Number of frames at a game's start that ``reset`` answered.

    ``chars`` [n, 24, 80] and ``key`` [n]: the game's first frames.
    """
    count = 0
    while count < len(key) and key[count] == SPACE and _has_more(chars[count]):
        count += 1
    return count


def _disclosure(chars: Screens, first: int) -> int | None:
    """Index of the disclosure's first screen at or after ``first``, None if there is none."""
    for index in range(len(chars) - 1, first - 1, -1):
        if ATTRIBUTES.search(_text(chars[index])):
            break
    else:
        return None
    if index == first:
        return index
    before = _text(chars[index - 1])
    pages = [int(total) for page, total in PAGE.findall(before) if page == total]
    if pages:
        return max(first, index - pages[-1])
    return index - 1 if LAST_PAGE in before else index


def _quit_by_environment(chars: Screens, key: npt.NDArray[np.uint8], end: int) -> int:
    """Step back over M-q, y, and the keys that cleared the screen before them."""
    if end < 2 or key[end - 1] != YES or key[end - 2] != META_Q:
        return end
    end -= 2
    # A player's own SPACE at a prompt right before the cap looks the same; it is masked with them.
    while end > 0 and key[end - 1] in (SPACE, ESC) and PROMPT.search(_text(chars[end - 1])):
        end -= 1
    return end


def closing_frames(chars: Screens, key: npt.NDArray[np.uint8]) -> int:
    """Number of frames at a game's end that NLE answered or nobody did.

    ``chars`` [n, 24, 80] and ``key`` [n]: the game's last frames. 0 for a recording that stops
    before the game does.
    """
    first = len(key)
    while first > 0 and key[first - 1] in (SPACE, ESC, 0):
        first -= 1
    end = _disclosure(chars, first)
    if end is None:
        return 0
    while end > first and _has_more(chars[end - 1]):
        end -= 1
        if not POSTHUMOUS.match(chars[end, 0].tobytes()):
            break
    if end == first:
        end = _quit_by_environment(chars, key, end)
    return len(key) - end
