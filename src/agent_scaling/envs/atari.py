"""Atari 2600 games on ALE under the protocol of Machado et al. (2018, arXiv 1709.06009)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar

import ale_py
import cv2
import numpy as np
import numpy.typing as npt

from agent_scaling.envs.families import Record, Views
from agent_scaling.envs.screens import SIDE
from agent_scaling.runtime.errors import InputError

MAX_ROWS, COLUMNS = 250, 160  # most games have 210 rows
MAX_FRAMES = 108_000  # half an hour of play at 60 frames per second
NOOP, FULL_ACTIONS = 0, 18
TWO_PLAYERS = ("combat", "joust", "maze_craze", "warlords")
"""Games that ALE has and cannot play alone; it would end the process."""

cv2.setNumThreads(1)  # a pool has a worker per core, and a frame is too small to share
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def rom_name(env: str) -> str:
    """``MsPacman`` or ``ms_pacman`` → ALE's name of the game.

    Raises:
        InputError: ALE has no such game.
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(env)).lower()
    known = [rom for rom in ale_py.roms.get_all_rom_ids() if rom not in TWO_PLAYERS]
    if name not in known:
        near = [other for other in known if other[:2] == name[:2]] or known
        raise InputError(f"env={env}: ALE has no such game; for instance {', '.join(near[:8])}")
    return name


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
    """ALE's code of each action: of the game's minimal set, or all 18.

    Raises:
        InputError: ALE has no such game.
    """
    ale = _open(rom_name(env))
    found = ale.getLegalActionSet() if full_actions else ale.getMinimalActionSet()
    return tuple(int(action.value) for action in found)


def action_names(codes: tuple[int, ...]) -> list[str]:
    """``NOOP``, ``UPFIRE``, … of ALE's codes."""
    return [ale_py.Action(code).name for code in codes]


class Atari:
    """One game of Atari; an episode is a function of its seed and its actions.

    A step is ``frame_skip`` frames of the console with one action; the screen is the brighter of
    the last two of them (sprites flicker), in grey, averaged down to 84×84, as in
    ``ale_py.AtariVectorEnv``. Frames are shown one at a time: what sees several stacks them itself.

    ALE takes a seed only when it loads a game, which costs as much as 200 steps. Here the console
    goes back to its first state, and the episode's own generator draws what its seed stands for:
    the frames without an action at the beginning, and where an action sticks.

    With ``life_loss``, for actors that learn, an episode also ends with a life, and the next one
    goes on in the same game, whatever its seed; the record at the game's end is the whole game's.

    Args:
        views: Arrays for ``observations``, or some of them.
        env: The game: ``Breakout``, ``ms_pacman``, …
        frame_skip: Console frames per step.
        sticky: Probability that a console frame repeats the action before.
        noop_max: An episode begins with 1 to so many console frames without an action; 0: none.
        full_actions: All 18 actions, also where the game has fewer.
        max_episode_steps: Step cap of an episode; ``MAX_FRAMES`` console frames are one, too.
        life_loss: Whether an episode ends with a life; its record then has nothing but its end.

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
    """``screen``: what the console shows in colour, its rows above and black beneath; ``frame`` is
    made of the same pixels."""
    num_actions: ClassVar[int] = FULL_ACTIONS
    """At most; how many a game has, :meth:`count_actions` tells."""
    columns: ClassVar[tuple[str, ...]] = ("return", "steps", "frames", "lives", "env", "end")
    """Of an episode's record: the raw score, steps, console frames, lives left, the game, and
    ``over`` or ``cap``."""

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
        self.codes = action_codes(env, full_actions)
        self.ale: Any = _open(rom)
        self._start = self.ale.cloneState(include_rng=True)
        shape = self.ale.getScreenDims()
        self._screen, self._before = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        self._shown = np.empty(shape, np.uint8)
        # 2.5 rows make one: five that did not change leave two as they are. Not so with 250 rows.
        self._block = (5, 2) if shape[0] == 5 * SIDE // 2 else (shape[0], SIDE)
        self._colors, self._colors_before = (np.empty((*shape, 3), np.uint8) for _ in range(2))
        self._views = views
        self._frame = views.get("frame", np.empty((SIDE, SIDE), np.uint8))
        self.life_loss, self._goes_on = life_loss, False
        self.score = self.steps = self.lives = 0

    @staticmethod
    def count_actions(env: str, full_actions: bool = False, **_: Any) -> int:
        """Actions of a game with these options."""
        return len(action_codes(env, full_actions))

    @staticmethod
    def action_names(env: str, full_actions: bool = False, **_: Any) -> list[str]:
        """Names of a game's actions with these options."""
        return action_names(action_codes(env, full_actions))

    @staticmethod
    def screen_rows(env: str) -> int:
        """Rows of a game's screen."""
        return int(_open(rom_name(env)).getScreenDims()[0])

    def reset(self, seed: int) -> None:
        """Begin the episode of ``seed``; after a life was lost, go on in the same game."""
        if self._goes_on:
            self._goes_on = False
            self._show(0)
            return
        self._rng = np.random.default_rng(seed)
        self.ale.reset_game()  # a restored state alone is not whole in every game
        self.ale.restoreState(self._start)
        self.score = self.steps = 0
        self.held = NOOP
        for _ in range(self._rng.integers(1, self.noop_max + 1) if self.noop_max else 0):
            self.score += self.ale.act(NOOP)
        self.lives = self.ale.lives()
        self.ale.getScreenGrayscale(self._screen)
        self._show_colors(None)
        np.invert(self._screen, out=self._shown)  # all of it is new
        self._show(0)

    def step(self, action: int) -> Record | None:
        """Hold an action for ``frame_skip`` frames; the episode's record if it has ended."""
        reward, last = 0, self.frame_skip - 1
        for frame, chance in enumerate(self._rng.random(self.frame_skip).tolist()):
            if chance >= self.sticky:
                self.held = self.codes[action]
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
        """The console goes with the object."""

    def memory(self) -> npt.NDArray[np.uint8]:
        """The console's 128 bytes, which scripted players read."""
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
        """The frame, from the first row of the screen that has changed to the last."""
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
        """The screen; where the frame before is ``brighter``, that one's."""
        if "screen" not in self._views:
            return
        self.ale.getScreenRGB(self._colors)
        if brighter is not None:
            np.copyto(self._colors, self._colors_before, where=brighter[..., None])
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
