"""NetHack under NetHackChallenge's rules, but seedable and without gymnasium's overhead."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nle import nethack

from agent_scaling.envs.actions import NUM_ACTIONS, action_name, action_to_key
from agent_scaling.envs.families import Record, Views
from agent_scaling.envs.nethack.inventories import InventoryLog
from agent_scaling.envs.nethack.progression import progression
from agent_scaling.envs.nethack.shared_code import prepare_library
from agent_scaling.envs.seeds import game_seeds
from agent_scaling.runtime.errors import InputError

MAX_EPISODE_STEPS = 100_000
IDLE_STEPS = 10_000
SPACE, ESCAPE = 32, 27
QUIT_KEYS = (0x80 | ord("q"), ord("y"))
QUIT_ATTEMPTS = 10
HUNGER = ("satiated", "not hungry", "hungry", "weak", "fainting", "fainted", "starved")
KEYS = {
    "chars": "tty_chars",
    "colors": "tty_colors",
    "cursor": "tty_cursor",
    "blstats": "blstats",
    "inv_glyphs": "inv_glyphs",
}
"""Name of each observation → NLE's name."""
GAME_OVER, IN_MOVELOOP = 0, 3  # positions in NLE's program_state
SCORE, TIME = nethack.NLE_BL_SCORE, nethack.NLE_BL_TIME  # positions in NLE's blstats
DEPTH, EXPERIENCE = nethack.NLE_BL_DEPTH, nethack.NLE_BL_XP
IN_YN, IN_GETLIN, WAITS_FOR_SPACE = 1, 2, 3  # positions in NLE's internal

ROLES = ("arc", "bar", "cav", "hea", "kni", "mon", "pri", "rog", "ran", "sam", "tou", "val", "wiz")
CHARACTER = {
    "role": ROLES,
    "race": ("hum", "elf", "dwa", "gno", "orc"),
    "gender": ("mal", "fem"),
    "align": ("law", "neu", "cha"),
}
OF_ROLE = {
    "arc": ("hum dwa gno", "law neu"), "bar": ("hum orc", "neu cha"),
    "cav": ("hum dwa gno", "law neu"), "hea": ("hum gno", "neu"), "kni": ("hum", "law"),
    "mon": ("hum", "law neu cha"), "pri": ("hum elf", "law neu cha"), "rog": ("hum orc", "cha"),
    "ran": ("hum elf gno orc", "neu cha"), "sam": ("hum", "law"), "tou": ("hum", "neu"),
    "val": ("hum dwa", "law neu"), "wiz": ("hum elf gno orc", "neu cha"),
}  # fmt: skip
"""Role → its races and alignments (NetHack's role.c); all have both genders but the Valkyrie."""
OF_RACE = {"elf": "cha", "dwa": "law", "gno": "neu", "orc": "cha"}
"""Race → its alignment; humans have any."""


def character_options(character: str) -> list[str]:
    """Return NetHack's options for a character such as ``val-dwa-fem-law``, ``val`` or ``@``.

    Parts that are not given are random.

    Raises:
        InputError: A part is unknown or given twice, or NetHack has no such character.
    """
    known = {part: kind for kind, parts in CHARACTER.items() for part in parts}
    said = [part for part in character.lower().split("-") if part != "@"]
    kinds = [known.get(part) for part in said]
    if None in kinds or len(set(kinds)) < len(kinds):
        raise InputError(
            f"character={character!r} is not role-race-gender-alignment in NetHack's "
            "abbreviations; write e.g. val-dwa-fem-law, val, or @ for a random one"
        )
    if not any(set(said) <= set(whole) for whole in _characters()):
        raise InputError(
            f"character={character!r}: NetHack has no such character, and would play another "
            "(dwarves are lawful, Valkyries are women, knights and samurai are lawful humans, …)"
        )
    chosen = dict.fromkeys(CHARACTER, "random") | dict(zip(kinds, said, strict=True))
    return [*nethack.NETHACKOPTIONS, *(f"{kind}:{part}" for kind, part in chosen.items())]


def _characters() -> Iterator[tuple[str, str, str, str]]:
    """Yield role, race, gender and alignment of each character that there is."""
    for role, (races, aligns) in OF_ROLE.items():
        genders = ("fem",) if role == "val" else CHARACTER["gender"]
        for race, gender, align in product(races.split(), genders, aligns.split()):
            if OF_RACE.get(race, align) == align:
                yield role, race, gender, align


class NetHack:
    """One game of NetHack: all 121 keys, no menus skipped, the in-game score as return.

    The rules are NetHackChallenge's: an episode ends with the game, after ``max_episode_steps``
    steps, or when the game's clock has stood still for ``idle_steps`` steps. The values that
    NetHack takes from the wall clock (moon, night, birthday) are functions of the seed.

    Args:
        views: Arrays for ``observations``, or some of them; NetHack writes into them directly.
        character: The character, see :func:`character_options`.
        max_episode_steps: Step cap of an episode.
        idle_steps: Steps without progress of the clock after which the game is aborted.
        level_seed: Seed of level generation for all episodes; None: each episode has its own.
        record_dir: Folder in which each finished episode leaves a ttyrec3, its xlogfile and its
            inventories.
    """

    observations: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        "chars": ((24, 80), "uint8"),
        "colors": ((24, 80), "int8"),
        "cursor": ((2,), "uint8"),
        "blstats": (nethack.BLSTATS_SHAPE, "int64"),
        "inv_glyphs": (nethack.INV_SIZE, "int16"),
        "reward": ((1,), "float32"),
    }
    """Shape and dtype of each observation; ``reward`` is the gain in score by the last key."""
    num_actions: ClassVar[int] = NUM_ACTIONS
    columns: ClassVar[tuple[str, ...]] = (
        "return", "progression", "steps", "turns", "max_depth", "level", "gold", "max_hp", "hunger",
        "role", "race", "gender", "alignment", "end", "death", "achievements", "core_seed",
        "display_seed", "lgen_seed",
    )  # fmt: skip
    """Columns of an episode's record; ``docs/rollouts.md`` explains them."""

    def __init__(
        self,
        views: Views,
        *,
        character: str = "@",
        max_episode_steps: int = MAX_EPISODE_STEPS,
        idle_steps: int = IDLE_STEPS,
        level_seed: int | None = None,
        record_dir: str | None = None,
    ) -> None:
        self.character = character
        self._options = character_options(character)
        self.max_episode_steps, self.idle_steps = max_episode_steps, idle_steps
        self.level_seed = level_seed
        self.record_dir = Path(record_dir) if record_dir else None
        self._keys: list[int] = action_to_key().tolist()
        # An episode's record is made from these, even where the policy does not read them.
        self._blstats = views.get("blstats", np.zeros(nethack.BLSTATS_SHAPE, np.int64))
        self._stats = self._blstats.data  # gives Python's numbers, and sooner than numpy
        self._program = np.zeros(nethack.PROGRAM_STATE_SHAPE, np.int32)
        self._state = self._program.data
        self._internal = np.zeros(nethack.INTERNAL_SHAPE, np.int32)
        self._last = bytes(self._stats)  # as of the last frame before the game's end
        self._score = 0  # in it
        self._buffers = {
            **{KEYS[name]: view for name, view in views.items() if name != "reward"},
            "blstats": self._blstats,
            "program_state": self._program,
            "internal": self._internal,
        }
        self._seen = [view for name, view in views.items() if name != "reward"]
        self._reward = views.get("reward", np.zeros(1, np.float32))
        self._partial: Path | None = None
        self._inventories: InventoryLog | None = None
        self._nethack: Any = None
        if self.record_dir is None:
            self._open()

    @staticmethod
    def action_names(**_: Any) -> list[str]:
        """Return the names of the 121 actions."""
        return [action_name(index) for index in range(NUM_ACTIONS)]

    def reset(self, seed: int) -> None:
        """Begin the episode of ``seed``."""
        self.seed = seed
        if self.record_dir is not None:
            self._open_recorded(self.record_dir, seed)
        seeds = game_seeds(seed)
        if self.level_seed is not None:
            seeds = replace(seeds, levels=self.level_seed)
        self._seeds = seeds
        self._nethack.set_initial_seeds(seeds.core, seeds.display, False, seeds.levels)
        if self._ttyrec is None:
            self._raw.reset()
        else:
            self._raw.reset(self._ttyrec)  # given again, so that the xlogfile names it
        prepare_library(self._nethack.dlpath, seeds.birthday)
        for _ in range(1000):  # skip the introduction
            if self._program[IN_MOVELOOP]:
                break
            self._press(SPACE)
        self._steps = self._idle = self._deepest = self._highest = 0
        self._turns = -1
        self._reward[0] = 0
        self._first_score = self._score = self._stats[nethack.NLE_BL_SCORE]
        self._last = bytes(self._stats)

    def step(self, action: int) -> Record | None:
        """Press a key; return the episode's record if this was its last step."""
        self._press(self._keys[action])
        self._steps += 1
        stats = self._stats
        if self._state[GAME_OVER]:
            self._pass_known_screens(decline=False)
            self._reward[0] = 0
        else:
            score = stats[SCORE]
            self._reward[0] = score - self._score
            self._score, self._last = score, stats.tobytes()
        if self._raw.done():
            return self._finish(None)
        turns = stats[TIME]
        if turns == self._turns:
            self._idle += 1
        else:
            self._turns, self._idle = turns, 0
            if stats[DEPTH] > self._deepest:
                self._deepest = stats[DEPTH]
            if stats[EXPERIENCE] > self._highest:
                self._highest = stats[EXPERIENCE]
        if self._steps >= self.max_episode_steps:
            return self._finish("cap")
        if self._idle >= self.idle_steps:
            return self._finish("aborted")
        return None

    def close(self) -> None:
        """End NetHack; remove its folder and an incomplete recording."""
        if self._nethack is not None:
            self._nethack.close()
            self._nethack = None
        if self._partial is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial = None

    def _press(self, key: int) -> None:
        if self._inventories is not None:
            self._inventories.see()
        self._raw.step(key)

    def _open(self, ttyrec: str | None = None, prefix: str = "") -> None:
        self._nethack = nethack.Nethack(
            observation_keys=(),
            options=self._options,
            playername="Agent",
            ttyrec=ttyrec,
            scoreprefix=prefix,
            fix_moon_phase=True,
        )
        self._raw = self._nethack._pynethack
        logged = {} if self._inventories is None else self._inventories.views
        self._raw.set_buffers(**self._buffers | logged)
        self._ttyrec = ttyrec
        self._xlogfile = Path(
            f"{prefix}xlogfile" if prefix else self._nethack._vardir + "/xlogfile"
        )

    def _open_recorded(self, root: Path, seed: int) -> None:
        """Open a new NetHack for a recorded game, since NLE closes a ttyrec only at a reset."""
        self.close()
        for left in root.glob(f".partial-{seed}-*"):  # left by a killed worker
            shutil.rmtree(left, ignore_errors=True)
        self._partial = root / f".partial-{seed}-{os.getpid()}"
        self._partial.mkdir(parents=True)
        self._inventories = InventoryLog(self._buffers)
        prefix = f"{self._partial}/nle.{seed}."  # the file's name determines the game's split
        self._open(f"{prefix}0.ttyrec3.bz2", prefix)

    def _pass_known_screens(self, decline: bool) -> None:
        """Press the spaces and escapes that NLE itself presses on the way out of a game."""
        while not self._raw.done():
            if self._internal[WAITS_FOR_SPACE]:
                self._press(SPACE)
            elif self._internal[IN_GETLIN]:
                self._press(ESCAPE)
            else:
                if self._internal[IN_YN] and decline:
                    self._press(ESCAPE)
                break

    def _quit(self) -> None:
        """End a game that still runs, even in the middle of a prompt, so that it is logged."""
        for _ in range(QUIT_ATTEMPTS):
            if self._raw.done():
                return
            self._pass_known_screens(decline=True)
            # Escape leaves a menu, a count or a direction; a typed line needs a second one.
            for key in (ESCAPE, ESCAPE, *QUIT_KEYS):
                if not self._raw.done():
                    self._press(key)
            self._pass_known_screens(decline=True)

    def _finish(self, end: str | None) -> Record:
        """Quit a game that still runs and make the record; ``end`` is the reason of a cut.

        The views keep the last frame that was seen, which quitting would overwrite.
        """
        seen = [view.copy() for view in self._seen]
        self._quit()
        if end is not None:
            for view, kept in zip(self._seen, seen, strict=True):
                np.copyto(view, kept)
        how = self._raw.how_done().name.lower() if self._raw.done() else ""
        if end is None:
            end = how if how in ("quit", "escaped", "ascended", "panicked") else "death"
        log = self._read_xlog()
        if self._partial is not None:
            self._keep_recording(self._partial)
        return self._record(end, log)

    def _record(self, end: str, log: dict[str, str]) -> Record:
        last: list[int] = np.frombuffer(self._last, self._blstats.dtype).tolist()
        hunger = last[nethack.NLE_BL_HUNGER]
        cut = end in ("cap", "aborted")  # the log would say that the player quit
        cause = "" if cut else log.get("death", "")
        depth = int(log.get("maxlvl", self._deepest))
        highest = max(self._highest, last[nethack.NLE_BL_XP])
        return {
            "return": last[nethack.NLE_BL_SCORE] - self._first_score,
            "progression": progression(depth, highest, end == "ascended"),
            "steps": self._steps,
            "turns": last[nethack.NLE_BL_TIME],
            "max_depth": depth,
            "level": last[nethack.NLE_BL_XP],
            "gold": last[nethack.NLE_BL_GOLD],
            "max_hp": last[nethack.NLE_BL_HPMAX],
            "hunger": HUNGER[hunger] if 0 <= hunger < len(HUNGER) else str(hunger),
            "role": log.get("role", "unknown"),
            "race": log.get("race", "unknown"),
            "gender": log.get("gender0", "unknown"),
            "alignment": log.get("align0", "unknown"),
            "end": end,
            "death": f"{cause}, while {log['while']}" if cause and "while" in log else cause,
            "achievements": int(log.get("achieve", "0"), 16),
            "core_seed": self._seeds.core,
            "display_seed": self._seeds.display,
            "lgen_seed": self._seeds.levels,
        }

    def _read_xlog(self) -> dict[str, str]:
        """Return the fields of the game's line in the xlogfile."""
        lines = self._xlogfile.read_text(errors="replace").splitlines()
        if self._partial is None:
            os.truncate(self._xlogfile, 0)  # keep one game's line at a time
        pairs = (field.partition("=") for field in (lines[-1] if lines else "").split("\t"))
        return {key: value for key, _, value in pairs}

    def _keep_recording(self, partial: Path) -> None:
        """Close the ttyrec, then give the game its final name."""
        self._nethack.close()
        assert self._inventories is not None
        assert self._ttyrec is not None
        self._inventories.write(Path(self._ttyrec))
        self._nethack, self._partial = None, None
        target = partial.parent / "nle_data" / f"seed-{self.seed}"
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
