"""Training runs as experiment files, which ``train --config-dir FOLDER experiment=NAME`` takes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict

from agent_scaling.config.command import setting
from agent_scaling.config.compose import hydra
from agent_scaling.config.groups import options_of
from agent_scaling.config.mistakes import UNTAKEN, explain
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import masked

PLANNED = ("output", "flops_budget", "milestones", "ckpt_path", "seed", "policy.params")
"""Keys of ``train`` that the plan sets; a setting of one would undo it."""

Settings = Mapping[str, Any]
"""Settings of ``train``, by group (``policy/core``) or dotted key; ``+key`` adds a new one."""


def split(settings: Settings) -> tuple[dict[str, str | list[str]], dict[str, Any]]:
    """Split settings into chosen groups and values by dotted key; null chooses no option.

    Raises:
        InputError: The plan itself sets one of the settings, or a choice of a group is no name.
    """
    for key in PLANNED:
        if key in settings:
            raise InputError(f"train.{key} is for the plan to set; take it out")
    with hydra() as loader:
        # Hydra reads folders to answer; a dotted key is never a group.
        known = [key for key in settings if "." not in key and options_of(key, loader)]
    groups = {key: settings[key] for key in known if settings[key] is not None}
    for key, option in groups.items():
        if not isinstance(option, str | list) or not all(isinstance(name, str) for name in option):
            raise InputError(
                f"train.{key}={option}: must be the name of a config, or a list of them"
            )
    return groups, {key: value for key, value in settings.items() if key not in known}


Bases = dict[tuple[str, ...], DictConfig]
"""Composed configs of ``train`` by their choices of groups, before any value is set."""


def compose_train(settings: Settings, planned: Settings, bases: Bases | None = None) -> DictConfig:
    """Compose the config of ``train`` with ``settings``, then with the plan's own settings.

    Args:
        settings: Of ``train``.
        planned: The plan's own settings.
        bases: Takes what is composed, for later calls: variants that differ in values alone are
            composed once.

    Raises:
        InputError: There is no such group or option, or ``train`` has no such key.
    """
    groups, values = split(settings)
    chosen = tuple(setting(group, option) for group, option in groups.items())
    bases = {} if bases is None else bases
    try:
        if chosen not in bases:
            with hydra():
                bases[chosen] = compose("train", list(chosen))
    except UNTAKEN as error:
        raise InputError(f"train.{explain(error, 'train')}") from error
    return with_values(bases[chosen], {**values, **planned})


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a config of ``train`` with these values.

    Raises:
        InputError: A key that it does not have.
    """
    cfg = copy.deepcopy(cfg)
    try:
        for key, value in values.items():
            if key.startswith("+"):
                with open_dict(cfg):
                    OmegaConf.update(cfg, key[1:], value, force_add=True)
            else:
                OmegaConf.update(cfg, key, value)
    except UNTAKEN as error:
        raise InputError(f"train.{explain(error, 'train')}") from error
    return cfg


def experiment_file(settings: Settings, planned: Settings, head: Sequence[str]) -> str:
    """The YAML of an experiment: groups and values of ``settings``, then what the plan sets.

    Args:
        settings: Of ``train``.
        planned: The plan's own settings, by dotted key.
        head: Lines of the comment at its top.
    """
    groups, values = split(settings)
    base = groups.pop("experiment", None)
    defaults: list[Any] = [base] if isinstance(base, str) else base or []
    defaults += [{f"override /{group}": option} for group, option in groups.items()]
    body = OmegaConf.create({})
    for key, value in {**values, **planned}.items():
        OmegaConf.update(body, key.removeprefix("+"), masked(value, key), force_add=True)
    comment = "".join(f"# {line}\n" for line in head)
    listed = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    return f"# @package _global_\n{comment}{listed}\n{OmegaConf.to_yaml(body)}"
