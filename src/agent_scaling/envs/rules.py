"""The options of games that a file may name: values that describe rules, and nothing else.

A checkpoint or a manifest may come from anybody. What it says of its game reaches the game's class,
whose further options name folders that are written to and emptied; those come from users alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from agent_scaling.envs.families import FAMILIES, NETHACK, Description, find_family, find_game
from agent_scaling.runtime.errors import InputError

Name = Annotated[str, Field(pattern=r"\A[\w@:. -]{1,100}\z")]
"""A character, a task or a console's game: nothing that could be a path."""
Version = Annotated[str, Field(pattern=r"\A[A-Za-z0-9.+, -]+\z", max_length=300)]
Versions = Annotated[dict[Name, Version], Field(max_length=10)]
"""Program → version, or several with commas."""
Steps = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Reward = Annotated[float, Field(allow_inf_nan=False)]
STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(STRICT)
class NetHackRules(TypedDict, total=False):
    """The rules of a :class:`agent_scaling.envs.nethack.NetHack` game."""

    character: Name
    max_episode_steps: Steps | None
    idle_steps: Steps | None
    level_seed: Seed | None


@with_config(STRICT)
class TaskRules(TypedDict, total=False):
    """Rules of NLE's and MiniHack's tasks."""

    task: Name
    level_seed: Seed | None
    character: Name
    max_episode_steps: Steps
    actions: list[int]
    penalty_mode: Name
    penalty_step: Reward
    penalty_time: Reward
    new_cell: Reward
    allow_all_yn_questions: bool
    allow_all_modes: bool
    spawn_monsters: bool
    reward_win: Reward
    reward_lose: Reward
    autopickup: bool
    pet: bool
    include_see_actions: bool


@with_config(STRICT)
class AtariRules(TypedDict, total=False):
    """The rules of an :class:`agent_scaling.envs.atari.Atari` game."""

    env: Name
    frame_skip: Annotated[int, Field(ge=1, le=10**4)]
    sticky: Annotated[float, Field(ge=0, lt=1)]
    noop_max: Steps
    full_actions: bool
    max_episode_steps: Steps | None
    life_loss: bool


@with_config(STRICT)
class GameFromFile(TypedDict):
    """A game as checkpoints hold it."""

    family: Annotated[str, Field(min_length=1, max_length=300)]
    options: Annotated[dict[str, Any], Field(max_length=100)]
    versions: NotRequired[Versions]


_GAME = TypeAdapter(GameFromFile)
_PLAIN = TypeAdapter(dict[str, bool | int | Reward | Name | None], config=ConfigDict(strict=True))
"""Options of an extension's game, whose rules are unknown here: no text in them can be a path."""
_RULES: Mapping[str, TypeAdapter[Any]] = {
    "nethack": TypeAdapter(NetHackRules),
    "nle": TypeAdapter(TaskRules),
    "minihack": TypeAdapter(TaskRules),
    "atari": TypeAdapter(AtariRules),
}


def game_from_file(value: object, where: str) -> Description:
    """Return the game that a file describes; NetHack where it says nothing.

    Args:
        value: ``{"family": …, "options": {…}}``, or what stands in its place.
        where: The file, for the message.

    Raises:
        InputError: It is no such description, or has an option that is no rule of the game.
    """
    if value is None or value == {}:
        return NETHACK
    try:
        game = _GAME.validate_python(value)
        find_family(game["family"])
        options = dict(_rules_of(game["family"]).validate_python(game["options"]))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}: its game cannot be believed ({at + ': ' if at else ''}{first['msg']}): "
            "a file may name rules of its game, no folders and no other options"
        ) from None
    _check_taken(game["family"], options, where)
    return Description(game["family"], options, game.get("versions", {}))


def _rules_of(family: str) -> TypeAdapter[Any]:
    return _RULES.get(family, _PLAIN)


def _check_taken(family: str, options: Mapping[str, Any], where: str) -> None:
    """Raise :class:`InputError` for an option that an extension's game does not take."""
    if family in FAMILIES:
        return
    parameters = signature(find_game(family)).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    if unknown := sorted(options.keys() - parameters.keys()):
        raise InputError(f"{where}: its game {family} takes no option {', '.join(unknown)}")
