"""Adds the inventory to the frames of a recorded game of NLE, which shows it to nobody.

It lies beside the recording, where the game was recorded by a program that knows of it. Otherwise
the game is played again: from its seeds, its birthday and its keys, NetHack is a function. A replay
is believed only if it shows every frame of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nle import nethack

from agent_scaling.data.recordings.base import BadGame, Game, Metadata, RawFrames
from agent_scaling.envs.nethack import character_options
from agent_scaling.envs.nethack.inventories import glyphs_of, inventory_file, read_inventory
from agent_scaling.envs.nethack.shared_code import prepare_library
from agent_scaling.envs.screens import INVENTORY_SLOTS

INTS = {"core_seed": 64, "display_seed": 64, "level_seed": 64, "starttime": 63}
"""Numbers that a replay takes from a game's metadata, and their bits."""


def with_inventory(root: Path, game: Game, chunks: Iterator[RawFrames]) -> Iterator[RawFrames]:
    """Yield a game's frames with ``inv_glyphs``.

    Raises:
        BadGame: There is no inventory beside the recording, and the game's seeds are not known or
            give another game; or what is there is damaged, or of another game.
    """
    path = inventory_file(root / game.parts[0])
    return _beside(path, chunks) if path.exists() else _replayed(game, chunks)


def _beside(path: Path, chunks: Iterator[RawFrames]) -> Iterator[RawFrames]:
    rows = read_inventory(path)
    known, begin = int(rows["frame"][-1]), 0
    for raw in chunks:
        end = begin + len(raw)
        raw.shown["inv_glyphs"] = glyphs_of(rows, begin, end)
        begin = end
        yield raw
    if begin != known:
        raise BadGame(f"{path.name} is of {known} frames, the recording has {begin}")


def _replayed(game: Game, chunks: Iterator[RawFrames]) -> Iterator[RawFrames]:
    replay = Replay(game.metadata)
    begin = 0
    try:
        for raw in chunks:
            replay.add_inventory(raw, begin)
            begin += len(raw)
            yield raw
    finally:
        replay.close()


class Replay:
    """NetHack as it began when a game was recorded.

    Args:
        about: The game's metadata: ``core_seed``, ``display_seed`` (0), ``level_seed`` (none),
            ``character`` (``@``) as NLE's environments take it, or ``hero`` as our own take theirs,
            and the xlogfile's ``starttime``, which is NetHack's birthday.

    Raises:
        BadGame: The core's seed or the start time is not among them.
    """

    def __init__(self, about: Metadata) -> None:
        if "core_seed" not in about or "starttime" not in about:
            raise BadGame(
                "it has no inventory beside it, and cannot be played again: its seeds are not "
                "known (source.seeds= is a table of them)"
            )
        numbers = {name: _number(about, name, bits) for name, bits in INTS.items() if name in about}
        self._shown: dict[str, npt.NDArray[Any]] = {
            "tty_chars": np.zeros((24, 80), np.uint8),
            "tty_colors": np.zeros((24, 80), np.int8),
            "tty_cursor": np.zeros(2, np.uint8),
            "inv_glyphs": np.zeros(INVENTORY_SLOTS, np.int16),
        }
        self._nethack = nethack.Nethack(
            observation_keys=(), ttyrec=None, fix_moon_phase=True, **_hero(about)
        )
        self._raw = self._nethack._pynethack
        self._raw.set_buffers(**self._shown)
        self._nethack.set_initial_seeds(
            numbers["core_seed"], numbers.get("display_seed", 0), False, numbers.get("level_seed")
        )
        self._raw.reset()
        prepare_library(self._nethack.dlpath, numbers["starttime"])

    def add_inventory(self, raw: RawFrames, begin: int) -> None:
        """Play the recording's next frames, compare them, and add ``inv_glyphs``.

        Raises :class:`BadGame` where a frame differs; ``begin`` is the first one's number.
        """
        names = {"tty_chars": "chars", "tty_colors": "colors", "tty_cursor": "cursor"}
        seen = {name: np.empty_like(raw.shown[plane]) for name, plane in names.items()}
        glyphs = np.empty((len(raw), INVENTORY_SLOTS), np.int16)
        played = 0
        for played, key in enumerate(raw.key.tolist(), 1):
            for name, frames in seen.items():
                frames[played - 1] = self._shown[name]
            glyphs[played - 1] = self._shown["inv_glyphs"]
            if self._raw.done():
                break
            self._raw.step(key)
        same = np.arange(len(raw)) < played
        for name, plane in names.items():
            differs = seen[name] != raw.shown[plane]
            same &= ~differs.reshape(len(raw), -1).any(axis=1)
        if not same.all():
            raise BadGame(
                f"played again from its seeds, it shows another frame {begin + int(same.argmin())} "
                "than was recorded (display_seed decides what a hero sees who hallucinates)"
            )
        raw.shown["inv_glyphs"] = glyphs

    def close(self) -> None:
        """End NetHack and remove its folder."""
        self._nethack.close()


def _hero(about: Metadata) -> dict[str, Any]:
    """Return NLE's arguments that choose the character.

    Parts that are not named are random in our games; in NLE's they are NetHack's choice.
    """
    if "hero" in about:
        return {"playername": "Agent", "options": character_options(str(about["hero"]))}
    return {"playername": f"Agent-{about.get('character', '@')}"}


def _number(about: Metadata, name: str, bits: int) -> int:
    value = about[name]
    if not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise BadGame(f"its {name}={value} is no number that NetHack takes")
    return value
