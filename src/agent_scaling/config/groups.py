"""Which options a verb's config lets one choose: each group's, from all folders of configs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.object_type import ObjectType

from agent_scaling.runtime.errors import InputError

NAMED = "named"
"""Where a verb's config keeps the values of keys that are groups in other verbs."""


@dataclass(frozen=True)
class Group:
    """A folder of configs that a verb chooses from.

    Attributes:
        name: ``policy/core``.
        chosen: The option; ``None``: none, or a list of them.
        options: What can be chosen.
        parts: What a list can add to an option: ``callbacks=[weight_norm,default]``.
    """

    name: str
    chosen: str | None
    options: tuple[str, ...]
    parts: tuple[str, ...]


def groups_of(verb: str, choices: Mapping[str, str | None], loader: Any) -> Iterator[Group]:
    """The groups that a verb's config is composed of, those within a group after it.

    Args:
        verb: Whose config it is.
        choices: Group → option, as ``hydra.runtime.choices`` has them.
        loader: Hydra's, which knows the folders of this project, of extensions and of the command.
    """
    for name in names_of(verb, choices, loader):
        found = configs_of(name, loader)
        parts = [option for option, config in found.items() if is_part(option, config)]
        whole = [option for option in found if option not in parts]
        inside = {member for option in whole for member in members(found[option])}
        added = tuple(part for part in parts if part not in inside)
        yield Group(name, choices[name], tuple(whole), added)


def names_of(verb: str, choices: Iterable[str], loader: Any) -> list[str]:
    """The groups' names; of Hydra's own groups, those that the verb names, at the end."""
    own = [getattr(entry, "group", None) for entry in listed(loader.repository.load_config(verb))]
    names = [name for name in choices if not name.startswith("hydra/") or name in own]
    folders = [name.partition("/")[0] for name in reversed(names)]  # Hydra has the first one last
    return sorted(
        names,
        key=lambda name: (name.startswith("hydra/"), folders.index(name.partition("/")[0]), name),
    )


def check_choices(choices: Mapping[str, Any], loader: Any) -> None:
    """Compare what was chosen with what can be.

    Raises:
        InputError: One part was chosen for all of a group.
    """
    for group, option in choices.items():
        config = loader.repository.load_config(f"{group}/{option}")
        if config is None or not is_part(option, config):
            continue
        found = configs_of(group, loader)
        whole = [other for other, config in found.items() if not is_part(other, config)]
        holding = [other for other in whole if option in members(found[other])]
        fix = f"{group}={' or '.join(holding)} has it; {group}.{option}.KEY=VALUE sets its keys"
        if not holding:
            fix = f"'{group}=[{option},{' or '.join(whole)}]' adds it"
        raise InputError(f"{group}={option}: is one part of {group}, not all of it; {fix}")


def configs_of(group: str, loader: Any) -> dict[str, Any]:
    """Each option of a group, as Hydra loads it."""
    options = loader.get_group_options(group, ObjectType.CONFIG)
    return {option: loader.repository.load_config(f"{group}/{option}") for option in options}


def is_part(option: str, config: Any) -> bool:
    """Whether an option is one part of its group: its file holds one key, which has its name."""
    return list(config.config) == [option]


def members(config: Any) -> list[str]:
    """The files of its own folder that an option is made of."""
    return [entry.get_name() for entry in listed(config)]


def listed(config: Any) -> Sequence[Any]:
    """The entries of a file's defaults list."""
    return config.defaults_list or ()
