"""Game families: the interface that the pool needs, and the table of families."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar, Protocol, get_type_hints

import numpy.typing as npt

from agent_scaling.config.extensions import is_extension
from agent_scaling.runtime.errors import InputError

Record = dict[str, Any]
"""An episode's statistics: plain JSON values by column name."""

CUT = ("cap", "aborted")
"""Values of a record's ``end`` where the episode was cut off, while the game might have gone on.
The last frame then stays in the views, and learners bootstrap from its value."""


@dataclass(frozen=True)
class Description:
    """Names the game that is played. Policies carry one; checkpoints hold it as a dict."""

    family: str
    """A name of :data:`FAMILIES`, or the import path of an extension's game."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the game's class."""
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Versions of the programs that played it when the policy learnt; empty: unknown."""

    def __str__(self) -> str:
        return " ".join([self.family, *(f"{k}={v}" for k, v in self.options.items())])

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds; ``envs.rules.game_from_file`` reads it."""
        found: dict[str, Any] = {"family": self.family, "options": dict(self.options)}
        return found | ({"versions": dict(self.versions)} if self.versions else {})


@dataclass(frozen=True)
class Family:
    """Games that are played and displayed in the same way."""

    path: str
    """Import path of its :class:`Game`, ``module:Class``, for the workers."""
    viewer: str
    """Module that shows its episodes, see :mod:`agent_scaling.playing.replays`."""
    variant: str | None = None
    """The option that chooses the family's game; None where it has only one."""
    prefix: str = ""
    """The beginning of its games' names."""
    example: str = ""
    """The name of one of its games, for messages."""
    live: bool = True
    """True where its screen is a terminal's, so that ``watch`` can show it."""
    rules: str = ""
    """Import path of the names and types of its options."""
    records: bool = False
    """True where it can record its episodes as ttyrecs (option ``record_dir``)."""


_TERMINAL, _CONSOLE = (
    "agent_scaling.playing.replays.terminal",
    "agent_scaling.playing.replays.console",
)
_TASK = "agent_scaling.envs.tasks:Task"
_RULES = "agent_scaling.envs.rules"
FAMILIES = {
    "nethack": Family(
        "agent_scaling.envs.nethack:NetHack",
        _TERMINAL,
        rules=f"{_RULES}:NetHackRules",
        records=True,
    ),
    "nle": Family(
        _TASK, _TERMINAL, "task", "NetHack", "NetHackStaircase-v0", rules=f"{_RULES}:TaskRules"
    ),
    "minihack": Family(
        _TASK, _TERMINAL, "task", "MiniHack", "MiniHack-Room-5x5-v0", rules=f"{_RULES}:TaskRules"
    ),
    "atari": Family(
        "agent_scaling.envs.atari:Atari",
        _CONSOLE,
        "env",
        example="Breakout",
        live=False,
        rules=f"{_RULES}:AtariRules",
    ),
}
"""Families by the name that manifests, checkpoints and the command line use."""

CAPS = {"max_episode_steps", "idle_steps"}
"""Options that end an episode; the games' classes take any number for them."""

GYMNASIUM_ID = re.compile(
    r"(?:ALE/)?(\w+?)(?:-ram)?(?:NoFrameskip|Deterministic)?(?:-v\d+)?", re.IGNORECASE
)
"""Names of an Atari game, with and without a version."""
MODULE = re.compile(r"(?:nle|minihack|ale_py|gymnasium|gym|shimmy):")
"""Modules that gymnasium imports before it makes a game (``ale_py:ALE/Breakout-v5``)."""

UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")

NETHACK = Description("nethack")
"""The game assumed for old and published checkpoints, which name none."""

Views = Mapping[str, npt.NDArray[Any]]
"""Arrays by name; the first axis may be the lane."""


class Game(Protocol):
    """One game in a worker process; it writes observations into arrays that others own.

    A family's class has this shape. Its import path (``module:Class``) names it, because each
    worker imports it. Its module must not import torch, which would add seconds to a worker's
    start. A class with several games has ``count_actions(**options)``. A class may have
    ``columns``, the names in an episode's record. An extension's class has ``viewer``, the module
    that shows its episodes, unless its screen is a terminal's.
    """

    observations: ClassVar[Mapping[str, tuple[tuple[int, ...], str]]]
    """The observations it can write: name → (shape, dtype); a pool may ask for some of them."""
    num_actions: ClassVar[int]
    """Width of its action set."""

    def __init__(self, views: Views, **options: Any) -> None: ...

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` alone determines, and write its first frame."""

    def step(self, action: int) -> Record | None:
        """Take an action; return the episode's record if it has ended, else None.

        A record's ``end`` is one of :data:`CUT` where the episode was cut off.
        """

    def close(self) -> None:
        """Release what the game holds."""


def find_game(path: str) -> type[Game]:
    """Return the class of a family's name, or of ``"package.module:Class"``."""
    module, _, name = (FAMILIES[path].path if path in FAMILIES else path).partition(":")
    found: type[Game] = getattr(importlib.import_module(module), name)
    return found


def find_family(name: str) -> Family:
    """Return the family of a name, or an extension's; a checkpoint may import no other class.

    Raises:
        InputError: There is no such family.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if ":" not in name or not is_extension(name.replace(":", ".")):
        raise InputError(f"game={name}: unknown; one of {families_text()}, or an extension's")
    viewer = getattr(find_game(name), "viewer", _TERMINAL)
    return Family(name, viewer, live=viewer == _TERMINAL)


def plain_name(env: str) -> str:
    """Return ``Breakout`` for ``ALE/Breakout-v5`` and gymnasium's other names of an Atari game.

    The game alone is taken: its protocol is that of the game's options, whatever the version.
    """
    found = GYMNASIUM_ID.fullmatch(env)
    return found[1] if found else env


def families_text() -> str:
    """Return the families with an example of each, as typed on the command line."""
    return "; ".join(
        f"game={name}" + (f" env={family.example}" if family.variant else "")
        for name, family in FAMILIES.items()
    )


def describe(path: str, options: Mapping[str, Any]) -> Description:
    """Return the description of a game given by its class path; a game of no family keeps it."""
    of_class = {n: f for n, f in FAMILIES.items() if path in (n, f.path)}
    for name, family in of_class.items():
        variant = str(options.get(family.variant or "", ""))
        if variant.startswith(family.prefix):
            plain = {"env": plain_name(variant)} if name == "atari" and variant else {}
            return Description(name, {**options, **plain})
    return Description(next(iter(of_class), path), dict(options))


def choose_game(
    own: Description | None,
    family: str | None = None,
    env: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Description:
    """Return the game to play: the policy's own or another, with the given options.

    Args:
        own: The game that the policy was trained on, if any.
        family: Name of a family; None takes the policy's own, else ``env``'s, else NetHack.
        env: The game of the family.
        options: Keyword arguments of the game; those that are None are left out.

    Raises:
        InputError: There is no such family, or the family has no such game.
    """
    env = env and MODULE.sub("", env, count=1)
    if family is None and env and env.lower() in FAMILIES:
        raise InputError(f"env={env}: is a family of games; write {families_text()}")
    if family is None:
        family = own.family if own else family_of(env)
    known = find_family(family)
    chosen = dict(own.options) if own and own.family == family else {}
    chosen |= {name: value for name, value in (options or {}).items() if value is not None}
    if env is not None:
        if known.variant is None or not env.startswith(known.prefix):
            raise InputError(f"env={env}: none of game={family}; write {families_text()}")
        chosen[known.variant] = plain_name(env) if family == "atari" else env
    if known.variant and not chosen.get(known.variant):
        raise InputError(f"env=: which game of {family}? For instance env={known.example}")
    return Description(family, chosen)


def family_of(env: str | None) -> str:
    """Return the first family whose prefix a game's name has; NetHack where no name is given."""
    if env is None:
        return "nethack"
    return next(n for n, f in FAMILIES.items() if f.variant and env.startswith(f.prefix))


def count_actions(game: Description) -> int:
    """Return the number of actions of a game.

    Raises:
        InputError: The game has no such options.
    """
    found: Any = find_game(game.family)
    for name in CAPS & game.options.keys():
        value = game.options[name]
        if value is not None and not (isinstance(value, int | float) and value >= 1):
            raise InputError(f"game={game.family}: options.{name}={value}: must be at least 1")
    try:
        found({}, **game.options).close()
        if not hasattr(found, "count_actions"):
            return int(found.num_actions)
        return int(found.count_actions(**game.options))
    except TypeError as error:
        from agent_scaling.config.mistakes import meant  # Hydra, which game workers do without

        unknown = UNKNOWN.search(str(error))
        if unknown is None:
            raise InputError(f"game={game.family}: options: {error}") from None
        known = option_names(game.family)
        raise InputError(
            f"game={game.family}: options.{unknown[1]}: no such option"
            f"{meant(unknown[1], known)}; of: {', '.join(known)}"
        ) from None


def option_names(family: str) -> list[str]:
    """Return the names of a family's options, but for the one that chooses its game."""
    if family not in FAMILIES:
        taken = signature(find_game(family)).parameters.values()
        return [p.name for p in taken if p.name != "views" and p.kind is not p.VAR_KEYWORD]
    module, _, name = FAMILIES[family].rules.partition(":")
    rules = getattr(importlib.import_module(module), name)
    return [name for name in get_type_hints(rules) if name != FAMILIES[family].variant]
