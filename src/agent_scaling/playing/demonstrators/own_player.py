"""Players that users bring: found by import path, asked for NetHack's keys, stopped at a fault.

A player is a class that is made with the game's seed. It has one of two methods::

    def act(self, observation): ...          # → the key to press
    def play(self, observation, press): ...  # calls press(key) → the next observation

``observation`` is NLE's dictionary of arrays, which NLE writes anew at each step. A key is a
character such as ``"j"``, its code, or a member of ``nle.nethack.ACTIONS``. ``press`` does not
return once the game is over. A ``play`` that returns earlier quits the game.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsInt

from agent_scaling.envs.actions import NO_ACTION, key_to_action
from agent_scaling.playing.demonstrators.nethack import Observation
from agent_scaling.runtime.errors import InputError, error_line

OBSERVATIONS = (
    "glyphs", "chars", "colors", "specials", "blstats", "message", "inv_glyphs", "inv_strs",
    "inv_letters", "inv_oclasses", "tty_chars", "tty_colors", "tty_cursor", "misc",
)  # fmt: skip
"""Names of the arrays; a player's attribute ``observation_keys`` replaces them."""
METHODS = ("act", "play")

Press = Callable[[int], Observation]
"""An action's index → the next observation; raises :class:`GameOver` at the end."""


class PlayerError(Exception):
    """A user's player has failed; the message is one line."""


class GameOver(BaseException):  # no error, and no "except Exception" may swallow it
    """The game has ended."""


def is_own(player: str) -> bool:
    """Return True for the import path of a user's player, ``package.module:Class``."""
    return ":" in player


def find_player(path: str) -> Callable[[int], Any]:
    """Import a user's player, installed or in the current folder.

    Raises:
        InputError: It cannot be imported, or is no player.
    """
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: its modules hide none of ours
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise InputError(
            f"player={path}: cannot be imported ({type(error).__name__}: {error_line(error)}); "
            "give package.module:Class, installed or in this folder"
        ) from error
    if not callable(found) or not any(callable(getattr(found, name, None)) for name in METHODS):
        raise InputError(f"player={path}: no class with a method {' or '.join(METHODS)}")
    made: Callable[[int], Any] = found
    return made


def observations_of(path: str) -> tuple[str, ...]:
    """Return the names of the arrays that a player reads."""
    return tuple(getattr(find_player(path), "observation_keys", OBSERVATIONS))


def drive(path: str, seed: int, observation: Observation, press: Press) -> None:
    """Let a user's player play from ``observation`` until the game ends or it returns.

    Raises:
        PlayerError: It raised an exception, or answered with something that is no key.
        GameOver: The game has ended.
    """
    with own_faults():
        player = find_player(path)(seed)
        if hasattr(player, "play"):
            player.play(observation, lambda key: press(action_of(key)))
            return
        while True:
            observation = press(action_of(player.act(observation)))


@contextmanager
def own_faults() -> Iterator[None]:
    """Turn any exception of a user's code into a :class:`PlayerError` that says where."""
    try:
        yield
    except PlayerError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = f" at {frames[-1].filename}:{frames[-1].lineno}"
        raise PlayerError(f"{type(error).__name__}: {error_line(error)}{at}") from error


def action_of(key: object) -> int:
    """Return the index of a key's action; raises :class:`PlayerError` for what is no key."""
    code = -1
    if isinstance(key, str) and len(key) == 1:
        code = ord(key)
    elif isinstance(key, SupportsInt) and not isinstance(key, str | bool):
        code = int(key)
    action = int(key_to_action()[code]) if 0 <= code < 256 else NO_ACTION
    if action == NO_ACTION:
        raise PlayerError(f"it pressed {key!r:.60}, none of the keys of nle.nethack.ACTIONS")
    return action
