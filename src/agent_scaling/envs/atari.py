"""Atari 2600 games on ALE under the protocol of Machado et al. (2018, arXiv 1709.06009)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar

import ale_py
import cv2
import numpy as np
import numpy.typing as npt

from agent_scaling.envs.families import Record, Views, plain_name
from agent_scaling.envs.screens import SIDE
from agent_scaling.runtime.errors import InputError

MAX_ROWS, COLUMNS = 250, 160  # most games have 210 rows
MAX_FRAMES = 108_000  # half an hour of play at 60 frames per second
NOOP, FULL_ACTIONS = 0, 18
TWO_PLAYERS = ("combat", "joust", "maze_craze", "warlords")
"""ALE's games that need two players; loading one would end the process."""

cv2.setNumThreads(1)  # a pool has a worker per core, and a frame is too small to share
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def rom_name(env: str) -> str:
    """Return ALE's name of ``MsPacman``, ``ms_pacman``, ``ALE/MsPacman-v5``.

    Raises:
        InputError: ALE has no such game.
    """
    name = _letters(plain_name(str(env)))
    roms = (rom for rom in ale_py.roms.get_all_rom_ids() if rom not in TWO_PLAYERS)
    known = {_letters(rom): rom for rom in roms}
    if name not in known:
        near = [rom for letters, rom in known.items() if letters[:2] == name[:2]]
        near = near or list(known.values())
        raise InputError(f"env={env}: ALE has no such game; for instance {', '.join(near[:8])}")
    return known[name]


def _letters(name: str) -> str:
    """Return a game's name as ALE and gymnasium both have it, but for case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _open(rom: str) -> Any:
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 0)
    ale.setFloat("repeat_action_probability", 0.0)
    path = ale_py.roms.get_rom_path(rom)
    assert path is not None
    ale.loadROM(path)
    return ale


@cache
def action_codes(env: str, full_actions: bool = False) -> tuple[int, ...]:
    """Return ALE's code of each action: of the game's minimal set, or of all 18.

    Raises:
        InputError: ALE has no such game.
    """
    return _codes(_open(rom_name(env)), full_actions)


def _codes(ale: Any, full_actions: bool) -> tuple[int, ...]:
    found = ale.getLegalActionSet() if full_actions else ale.getMinimalActionSet()
    return tuple(int(action.value) for action in found)


def action_names(codes: tuple[int, ...]) -> list[str]:
    """Return the names of ALE's codes: ``NOOP``, ``UPFIRE``, …"""
    return [ale_py.Action(code).name for code in codes]


class Atari:
    """One game of Atari; an episode is a function of its seed and its actions.

    A step is ``frame_skip`` frames of the console with one action. The screen is the pixelwise
    maximum of the last two frames (sprites flicker), in grey, averaged down to 84×84, as in
    ``ale_py.AtariVectorEnv``. An observation is a single frame; encoders stack frames themselves.

    ALE takes a seed only when it loads a game, which costs as much as 200 steps. Instead, the
    console is restored to its first state, and a generator of the episode's own seed draws the
    number of frames without an action at the beginning and the frames at which an action sticks.

    With ``life_loss``, for actors that learn, an episode also ends at the loss of a life. The next
    episode continues the same game, whatever its seed. The record at the game's end covers the
    whole game.

    Args:
        views: Arrays for ``observations``, or some of them.
        env: The game: ``Breakout``, ``ms_pacman``, …
        frame_skip: Console frames per step.
        sticky: Probability that a console frame repeats the previous action.
        noop_max: Most console frames without an action that open an episode, at least 1; 0: none.
        full_actions: True for all 18 actions, even where the game has fewer.
        max_episode_steps: Step cap of an episode; ``MAX_FRAMES`` console frames also end it.
        life_loss: True to end an episode at the loss of a life; its record then holds only ``end``.

    Raises:
        InputError: ALE has no such game, or a number is out of its range.
    """

    observations: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        "frame": ((SIDE, SIDE), "uint8"),
        "reward": ((1,), "float32"),
        "score": ((1,), "int32"),
        "lives": ((1,), "int32"),
        "screen": ((MAX_ROWS, COLUMNS, 3), "uint8"),
    }
    """Shape and dtype of each observation. ``screen`` is the console's coloured screen, padded with
    black rows at the bottom; ``frame`` is made of the same pixels."""
    num_actions: ClassVar[int] = FULL_ACTIONS
    """Largest number of actions; :meth:`count_actions` returns that of a game."""
    columns: ClassVar[tuple[str, ...]] = ("return", "steps", "frames", "lives", "env", "end")
    """Columns of an episode's record: the raw score, steps, console frames, lives left, the game,
    and ``over`` or ``cap``."""

    def __init__(
        self,
        views: Views,
        *,
        env: str,
        frame_skip: int = 4,
        sticky: float = 0.25,
        noop_max: int = 30,
        full_actions: bool = False,
        max_episode_steps: int | None = None,
        life_loss: bool = False,
    ) -> None:
        if frame_skip < 1 or noop_max < 0 or not 0 <= sticky < 1:
            raise InputError(
                f"frame_skip={frame_skip} noop_max={noop_max} sticky={sticky}: must be at least 1, "
                "at least 0, and at least 0 and below 1"
            )
        self.env, rom = env, rom_name(env)
        self.frame_skip, self.sticky, self.noop_max = frame_skip, sticky, noop_max
        longest = MAX_FRAMES // frame_skip
        self.max_episode_steps = min(max_episode_steps or longest, longest)
        self.ale: Any = _open(rom)
        self.actions = _codes(self.ale, full_actions)  # to load the game again takes 0.1 s
        """ALE's codes of the game's actions, in order."""
        self._start = self.ale.cloneState(include_rng=True)
        shape = self.ale.getScreenDims()
        self._screen, self._before = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        self._shown = np.empty(shape, np.uint8)
        # With 210 rows, 2.5 rows of the screen make one of the frame, so 5 unchanged rows leave 2
        # as they are. Other screens, of 250 rows, have no such blocks.
        self._block = (5, 2) if shape[0] == 5 * SIDE // 2 else (shape[0], SIDE)
        self._colors, self._colors_before = (np.empty((*shape, 3), np.uint8) for _ in range(2))
        self._views = views
        self._frame = views.get("frame", np.empty((SIDE, SIDE), np.uint8))
        self.life_loss, self._goes_on = life_loss, False
        self.score = self.steps = self.lives = 0

    @staticmethod
    def count_actions(env: str, full_actions: bool = False, **_: Any) -> int:
        """Return the number of actions of a game with these options."""
        return len(action_codes(env, full_actions))

    @staticmethod
    def action_names(env: str, full_actions: bool = False, **_: Any) -> list[str]:
        """Return the names of a game's actions with these options."""
        return action_names(action_codes(env, full_actions))

    @staticmethod
    def screen_rows(env: str) -> int:
        """Return the number of rows of a game's screen."""
        return int(_open(rom_name(env)).getScreenDims()[0])

    def reset(self, seed: int) -> None:
        """Begin the episode of ``seed``; after the loss of a life, continue the same game."""
        if self._goes_on:
            self._goes_on = False
            self._show(0)
            return
        self._rng = np.random.default_rng(seed)
        self.ale.reset_game()  # for some games, restoring the state is not enough
        self.ale.restoreState(self._start)
        self.score = self.steps = 0
        self.held = NOOP
        for _ in range(self._rng.integers(1, self.noop_max + 1) if self.noop_max else 0):
            self.score += self.ale.act(NOOP)
        self.lives = self.ale.lives()
        self.ale.getScreenGrayscale(self._screen)
        self._show_colors(None)
        np.invert(self._screen, out=self._shown)  # mark all rows as changed
        self._show(0)

    def step(self, action: int) -> Record | None:
        """Hold an action for ``frame_skip`` frames; return the episode's record if it ended."""
        reward, last = 0, self.frame_skip - 1
        for frame, chance in enumerate(self._rng.random(self.frame_skip).tolist()):
            if chance >= self.sticky:
                self.held = self.actions[action]
            reward += self.ale.act(self.held)
            if frame == last - 1:
                self.ale.getScreenGrayscale(self._before)
                if "screen" in self._views:
                    self.ale.getScreenRGB(self._colors_before)
            if self.ale.game_over(with_truncation=False):
                break
        self.ale.getScreenGrayscale(self._screen)
        self._show_colors(self._before > self._screen if self.frame_skip > 1 else None)
        if self.frame_skip > 1:
            np.maximum(self._screen, self._before, out=self._screen)
        self.score += reward
        self.steps += 1
        self._show(reward)
        if self.ale.game_over(with_truncation=False):
            return self._record("over")
        if self.steps >= self.max_episode_steps:
            return self._record("cap")
        before, self.lives = self.lives, self.ale.lives()
        self._goes_on = self.life_loss and self.lives < before
        return {"end": "life"} if self._goes_on else None

    def close(self) -> None:
        """Do nothing; the console is freed with the object."""

    def memory(self) -> npt.NDArray[np.uint8]:
        """Return the console's 128 bytes of memory, which scripted players read."""
        ram: npt.NDArray[np.uint8] = self.ale.getRAM()
        return ram

    def _show(self, reward: int) -> None:
        self._shrink()
        for name, value in (("reward", reward), ("score", self.score)):
            if name in self._views:
                self._views[name][...] = value
        if "lives" in self._views:
            self._views["lives"][...] = self.ale.lives()

    def _shrink(self) -> None:
        """Update the frame between the first and the last row of the screen that have changed."""
        words = self._screen.view(np.uint64)
        changed = np.flatnonzero(words != self._shown.view(np.uint64))
        if not len(changed):
            return
        rows, kept = self._block
        first, last = (int(word) // words.shape[1] // rows for word in changed[[0, -1]])
        part = slice(first * rows, (last + 1) * rows)
        frame = self._frame[first * kept : (last + 1) * kept]
        cv2.resize(self._screen[part], (SIDE, len(frame)), dst=frame, interpolation=cv2.INTER_AREA)
        self._shown[part] = self._screen[part]

    def _show_colors(self, brighter: npt.NDArray[np.bool_] | None) -> None:
        """Update the coloured screen, with the previous frame's pixels where it is ``brighter``."""
        if "screen" not in self._views:
            return
        self.ale.getScreenRGB(self._colors)
        if brighter is not None:
            cv2.copyTo(self._colors_before, brighter.view(np.uint8), self._colors)
        self._views["screen"][: len(self._colors)] = self._colors

    def _record(self, end: str) -> Record:
        return {
            "return": self.score,
            "steps": self.steps,
            "frames": int(self.ale.getEpisodeFrameNumber()),
            "lives": int(self.ale.lives()),
            "env": self.env,
            "end": end,
        }
