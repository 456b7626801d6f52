"""NLE's tasks and MiniHack from gymnasium's registry: seedable, with their rewards and actions."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import nle  # noqa: F401  (registers NetHack…-v0)
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import load_env_creator
from nle import nethack

from agent_scaling.config.mistakes import meant
from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.families import CUT, Record, Views
from agent_scaling.envs.levels import check_level
from agent_scaling.envs.nethack import HUNGER, KEYS, NetHack, character_options
from agent_scaling.envs.nethack.shared_code import prepare_library
from agent_scaling.envs.seeds import game_seeds
from agent_scaling.runtime.errors import InputError, error_line

ENDS = {"ABORTED": "cap", "DEATH": "death", "TASK_SUCCESSFUL": "solved"}
"""NLE's end status → ``end`` in a record."""


MAP = "chars"
"""NLE's observation of a level's map alone, which no menu hides."""
MOST_NAMED = 8
"""Most tasks that a message lists."""


class Task:
    """An environment of NLE's (``NetHackScore-v0``, ``NetHackStaircase-v0``, …) or MiniHack's.

    Actions are indices into the task's own set (:func:`action_keys`). An episode's return is the
    sum of the task's rewards. The task decides when it ends (``end`` is ``solved``, ``death`` or
    ``cap``). A step takes some 40 µs of Python more than a step of
    :class:`~agent_scaling.envs.nethack.NetHack`.

    Args:
        views: Arrays for ``observations``, or some of them.
        task: The environment's id in gymnasium's registry.
        level_seed: Seed of level generation for all episodes; None: each episode has its own.
        new_cell: Added to ``reward``, but not to the return, for each cell of a level's map that an
            episode shows for the first time: a bonus for exploration in training games, as the
            reward of NLE's Scout task (arXiv 2006.13760, appendix).
        options: Keyword arguments of the environment, e.g. ``max_episode_steps``, ``character``,
            ``penalty_step``.

    Raises:
        InputError: There is no such task, it cannot be seeded, MiniHack is not installed, or
            ``new_cell`` is no finite number.
    """

    observations: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        **NetHack.observations,
        "reward": ((1,), "float32"),
    }
    num_actions: ClassVar[int] = NUM_ACTIONS
    """Largest number of actions; :meth:`count_actions` returns that of a task."""
    columns: ClassVar[tuple[str, ...]] = (
        "return", "solved", "steps", "turns", "max_depth", "level", "gold", "max_hp", "hunger",
        "end", "core_seed", "display_seed", "lgen_seed",
    )  # fmt: skip
    """Columns of an episode's record: NetHack's without the character's, and ``solved``."""

    def __init__(
        self,
        views: Views,
        *,
        task: str,
        level_seed: int | None = None,
        new_cell: float = 0.0,
        **options: Any,
    ) -> None:
        self._views = {KEYS[name]: view for name, view in views.items() if name != "reward"}
        self._reward = views.get("reward", np.zeros(1, np.float32))
        if not isinstance(new_cell, int | float) or not math.isfinite(new_cell):
            raise InputError(f"options.new_cell={new_cell}: must be a finite number")
        self.level_seed, self.new_cell = level_seed, new_cell
        self._shown: dict[tuple[int, ...], npt.NDArray[np.bool_]] = {}
        keys = (*KEYS.values(), *([MAP] if new_cell else []))
        self._env = make_environment(task, keys=keys, **options)
        self._quit_game = self._env._quit_game
        self._env._quit_game = self._keep_and_quit
        self._before_quitting: dict[str, Any] = {}
        self.actions: list[Any] = list(self._env.actions)
        """The task's actions, in order."""

    @classmethod
    def count_actions(cls, *, task: str, level_seed: int | None = None, **options: Any) -> int:
        """Return the number of a task's actions, which its policies have too.

        A step is tried: NLE and MiniHack look at some of their options only then.

        Raises:
            InputError: There is no such task, or it cannot be played with these options.
        """
        game = cls({}, task=task, level_seed=level_seed, **options)
        try:
            game.reset(0)
            game.step(0)
            return len(game.actions)
        except InputError:
            raise
        except Exception as error:  # of NLE's and MiniHack's own code, at values of any kind
            raise InputError(f"task={task} cannot be played: {error_line(error)}") from error
        finally:
            game.close()

    @classmethod
    def action_names(cls, *, task: str, level_seed: int | None = None, **options: Any) -> list[str]:
        """Return the names of a task's actions."""
        return [str(action.name) for action in _actions(task, **options)]

    def reset(self, seed: int) -> None:
        """Begin the episode of ``seed``; its first reward is 0."""
        seeds = game_seeds(seed)
        if self.level_seed is not None:
            seeds = replace(seeds, levels=self.level_seed)
        random.seed(seeds.levels)  # Boxoban chooses its level in Python
        self._env.seed(seeds.core, seeds.display, reseed=False, lgen=seeds.levels)
        frame, _ = self._env.reset()
        prepare_library(self._env.nethack.dlpath, seeds.birthday)
        self._seeds, self._steps, self._deepest, self._return = seeds, 0, 0, 0.0
        self._show(frame, 0.0)
        self._shown = {}
        if self.new_cell:
            self._count_new_cells(frame)

    def step(self, action: int) -> Record | None:
        """Take an action; return the episode's record if this was its last step."""
        frame, reward, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        self._return += reward
        ended, status = terminated or truncated, info["end_status"].name
        cut = ended and ENDS[status] in CUT
        self._show(self._before_quitting if cut else frame, reward, ended)
        if self.new_cell and not ended:
            self._reward[0] += self.new_cell * self._count_new_cells(frame)
        return self._record(status) if ended else None

    def close(self) -> None:
        """End NetHack and remove its folder."""
        self._env.close()

    def _keep_and_quit(self, observation: Sequence[npt.NDArray[Any]], done: bool) -> None:
        """Copy the last frame of an episode that is cut off: NLE writes its questions over it."""
        frame = self._env._get_observation(observation)
        self._before_quitting = {name: np.array(frame[name]) for name in self._views}
        self._quit_game(observation, done)

    def _show(self, frame: dict[str, Any], reward: float, ended: bool = False) -> None:
        for name, view in self._views.items():
            np.copyto(view, frame[name])
        self._reward[0] = reward
        if not ended:  # NLE's last frame is all zeros
            self._last: list[int] = frame["blstats"].tolist()
            self._deepest = max(self._deepest, self._last[nethack.NLE_BL_DEPTH])

    def _count_new_cells(self, frame: dict[str, Any]) -> int:
        """Count the map's cells that are shown here for the first time in this episode."""
        level = self._last[nethack.NLE_BL_DNUM], self._last[nethack.NLE_BL_DLEVEL]
        shown = frame[MAP] != ord(" ")
        before = self._shown.get(level)
        self._shown[level] = shown if before is None else before | shown
        return int(np.count_nonzero(shown if before is None else shown & ~before))

    def _record(self, status: str) -> Record:
        last = self._last
        hunger = last[nethack.NLE_BL_HUNGER]
        return {
            "return": self._return,
            "solved": ENDS[status] == "solved",
            "steps": self._steps,
            "turns": last[nethack.NLE_BL_TIME],
            "max_depth": self._deepest,
            "level": last[nethack.NLE_BL_XP],
            "gold": last[nethack.NLE_BL_GOLD],
            "max_hp": last[nethack.NLE_BL_HPMAX],
            "hunger": HUNGER[hunger] if 0 <= hunger < len(HUNGER) else str(hunger),
            "end": ENDS[status],
            "core_seed": self._seeds.core,
            "display_seed": self._seeds.display,
            "lgen_seed": self._seeds.levels,
        }


def action_keys(task: str, **options: Any) -> list[int]:
    """Return the key codes of a task's actions, in order."""
    return [int(key) for key in _actions(task, **options)]


def _actions(task: str, **options: Any) -> list[Any]:
    options.pop("new_cell", None)  # ours, see Task
    env = make_environment(task, **options)
    try:
        return list(env.actions)
    finally:
        env.close()


def make_environment(task: str, *, keys: Iterable[str] = KEYS.values(), **options: Any) -> Any:
    """Make a task without gymnasium's wrappers; raises :class:`InputError` as :class:`Task`.

    ``keys`` are the observations of NLE's that its frames have.
    """
    if task == "NetHackChallenge-v0":
        raise InputError(f"task={task} refuses seeds; game=nethack is this game with them")
    if task.startswith("MiniHack"):
        _import_minihack(task)
    if task not in gymnasium.registry:
        family = "MiniHack" if task.startswith("MiniHack") else "NetHack"
        known = sorted(name for name in gymnasium.registry if name.startswith(family))
        of = f"none of {', '.join(known[:MOST_NAMED])}{', …' if len(known) > MOST_NAMED else ''}"
        raise InputError(f"task={task}: {of}{meant(task, known)}")
    if isinstance(options.get("character"), str):
        character_options(options["character"])  # NetHack would take a random one in its place
    if options.get("actions") is not None:
        options["actions"] = known_actions(options["actions"])
    spec = gymnasium.spec(task)
    assert isinstance(spec.entry_point, str)
    # gymnasium.make would use max_episode_steps for a wrapper instead of passing it on.
    create = load_env_creator(spec.entry_point)
    if task.startswith("MiniHack"):
        check_level(task, options.get("des_file"))
    shown = {"observation_keys": tuple(keys)}
    try:
        return create(**{**spec.kwargs, **options}, **shown, fix_moon_phase=True)
    except (ImportError, OSError, AttributeError, RuntimeError, ValueError) as error:
        raise InputError(f"task={task} cannot be made: {' '.join(str(error).split())}") from error


def known_actions(codes: Any) -> tuple[Any, ...]:
    """Return NLE's actions of key codes; NLE itself would press keys that NetHack does not have.

    Raises:
        InputError: They are no list of such codes, or none.
    """
    known = {int(action): action for action in nethack.ACTIONS}
    if not isinstance(codes, list | tuple) or not codes or not {*codes} <= known.keys():
        raise InputError(
            f"options.actions={codes}: must be a list of key codes of NetHack's, such as [107,108]"
        )
    return tuple(known[code] for code in codes)


def _import_minihack(task: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources warns of its deprecation
            with _unless_both("inflect", "stanza"):
                import minihack  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"task={task} needs MiniHack, which cannot be imported ({error}): "
            "pip install 'agent-scaling[minihack]'"
        ) from error


@contextlib.contextmanager
def _unless_both(dear: str, other: str) -> Iterator[None]:
    """Let imports of ``dear`` fail where ``other`` is not installed.

    MiniHack's reader of wikis works with both or not at all. setuptools brings ``inflect`` along,
    which checks its own types at run time: to prepare that takes a worker process seconds.
    """
    hidden = dear not in sys.modules and importlib.util.find_spec(other) is None
    if hidden:
        sys.modules[dear] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[dear]
