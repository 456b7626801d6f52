"""The options that a verb's config offers: each group's, from all folders of configs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult

from agent_scaling.runtime.errors import InputError

NAMED = "named"
"""Where a verb's config keeps the values of keys that are groups in other verbs."""


@dataclass(frozen=True)
class Group:
    """A folder of configs that a verb chooses from.

    Attributes:
        name: ``policy/core``.
        chosen: The chosen option; ``None`` for none, or for a list of options.
        options: The options to choose from.
        parts: Configs that a list can add to an option: ``callbacks=[weight_norm,default]``.
    """

    name: str
    chosen: str | None
    options: tuple[str, ...]
    parts: tuple[str, ...]


def groups_of(
    verb: str, choices: Mapping[str, str | None], loader: ConfigLoader
) -> Iterator[Group]:
    """Return the groups that a verb's config is composed of, each before the groups within it.

    Args:
        verb: The verb of the config.
        choices: Group → option, as ``hydra.runtime.choices`` has them.
        loader: Hydra's loader; it knows the folders of this project, extensions and the command.
    """
    for name in names_of(verb, choices, loader):
        found = configs_of(name, loader)
        parts = [option for option, config in found.items() if is_part(option, config)]
        whole = [option for option in found if option not in parts]
        inside = {member for option in whole for member in members(found[option])}
        added = tuple(part for part in parts if part not in inside)
        yield Group(name, choices[name], tuple(whole), added)


def names_of(verb: str, choices: Iterable[str], loader: ConfigLoader) -> list[str]:
    """Return the groups' names, last those of Hydra's own groups that the verb names."""
    own = [getattr(entry, "group", None) for entry in listed(loaded(verb, loader))]
    names = [name for name in choices if not name.startswith("hydra/") or name in own]
    folders = [name.partition("/")[0] for name in reversed(names)]  # Hydra lists them backwards
    return sorted(
        names,
        key=lambda name: (name.startswith("hydra/"), folders.index(name.partition("/")[0]), name),
    )


def check_choices(choices: Mapping[str, str | None], loader: ConfigLoader) -> None:
    """Refuse a part of a group that was chosen as the whole group.

    Raises:
        InputError: A part was chosen as a whole group.
    """
    for group, option in choices.items():
        config = loaded_if_there(f"{group}/{option}", loader)
        if option is None or config is None or not is_part(option, config):
            continue
        found = configs_of(group, loader)
        whole = [other for other, config in found.items() if not is_part(other, config)]
        holding = [other for other in whole if option in members(found[other])]
        fix = f"{group}={' or '.join(holding)} has it; {group}.{option}.KEY=VALUE sets its keys"
        if not holding:
            fix = f"'{group}=[{option},{' or '.join(whole)}]' adds it"
        raise InputError(f"{group}={option}: is one part of {group}, not all of it; {fix}")


def configs_of(group: str, loader: ConfigLoader) -> dict[str, ConfigResult]:
    """Return each option of a group, as Hydra loads it."""
    return {option: loaded(f"{group}/{option}", loader) for option in options_of(group, loader)}


def options_of(group: str, loader: ConfigLoader) -> list[str]:
    """Return the names of a group's options; none where there is no such group.

    The loader's own answer first copies all files that it has read, in 4 ms.
    """
    return repository(loader).get_group_options(group, ObjectType.CONFIG)


def loaded(name: str, loader: ConfigLoader) -> ConfigResult:
    """A config that is there, as Hydra loads it."""
    found = loaded_if_there(name, loader)
    assert found is not None, name
    return found


def loaded_if_there(name: str, loader: ConfigLoader) -> ConfigResult | None:
    """A config as Hydra loads it; None where no folder has it."""
    return repository(loader).load_config(name)


def repository(loader: ConfigLoader) -> IConfigRepository:
    """Return the folders of configs that the loader reads."""
    assert isinstance(loader, ConfigLoaderImpl)  # Hydra has no other
    return loader.repository


def is_part(option: str, config: ConfigResult) -> bool:
    """True where an option is a part of its group: its file holds one key, of the same name."""
    return list(config.config) == [option]


def members(config: ConfigResult) -> list[str]:
    """Return the files of its own folder that an option is composed of."""
    return [name for entry in listed(config) if (name := entry.get_name()) is not None]


def listed(config: ConfigResult) -> Sequence[InputDefault]:
    """Return the entries of a file's defaults list."""
    return config.defaults_list or ()
