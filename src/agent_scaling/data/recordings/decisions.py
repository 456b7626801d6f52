"""Separates the player's decisions in an NLE recording from the keys that NLE pressed itself.

NLE presses keys itself in three places (``nle/env/base.py``) and records them like any other key:

1. ``reset`` presses SPACE until NetHack's main loop runs: the ``--More--`` of the welcome.
2. Once the game is over (``program_state.gameover``), ``_perform_known_steps`` presses SPACE or ESC
   through the disclosure: the message on the screen, the inventory, the attributes, the vanquished,
   the conduct, the dungeon, the tombstone. After the last screen there is nothing left to answer.
3. At the step cap or without progress, ``_quit_game`` first clears what is on the screen with
   SPACE and ESC, then presses M-q and y; then the disclosure follows as in 2.

The screens tell these apart. NetHack sets ``gameover`` after it has written the message of the
death to the top line and before it asks for the ``--More--`` that closes that line. Exactly one
such ``--More--`` frame therefore comes before the disclosure, and none if the last key answered
"Really quit?". A line about the possessions that a shopkeeper or a vault takes may follow it.
For the 51 reference games this gives exactly the environment's own count of steps.

One case cannot be told from the screens: the step cap falls on a ``--More--`` and the player's
death follows it. NLE clears that ``--More--`` with SPACE, which looks like the player's key, so the
game counts one decision too many.
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
    """Join the screen's rows, each followed by ``|``, into the string that the patterns search."""
    return b"|".join(row.tobytes() for row in screen) + b"|"


def _has_more(screen: npt.NDArray[np.uint8]) -> bool:
    return MORE in screen.tobytes()  # without row breaks, since the word may wrap at column 80


def opening_frames(chars: Screens, key: npt.NDArray[np.uint8]) -> int:
    """Return the number of frames at a game's start that NLE's ``reset`` answered.

    ``chars`` [n, 24, 80] and ``key`` [n]: the game's first frames.
    """
    count = 0
    while count < len(key) and key[count] == SPACE and _has_more(chars[count]):
        count += 1
    return count


def _disclosure(chars: Screens, first: int) -> int | None:
    """Return the index of the disclosure's first screen at or after ``first``; None if absent."""
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
    """Move ``end`` back over M-q, y, and the keys with which NLE cleared the screen before them."""
    if end < 2 or key[end - 1] != YES or key[end - 2] != META_Q:
        return end
    end -= 2
    # A player's own SPACE at a prompt right before the cap looks the same and is masked as well.
    while end > 0 and key[end - 1] in (SPACE, ESC) and PROMPT.search(_text(chars[end - 1])):
        end -= 1
    return end


def closing_frames(chars: Screens, key: npt.NDArray[np.uint8]) -> int:
    """Return the number of frames at a game's end that NLE answered or that have no answer.

    ``chars`` [n, 24, 80] and ``key`` [n]: the game's last frames. The number is 0 for a recording
    that stops before the game does.
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
