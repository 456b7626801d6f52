"""Equal configs are composed once in a process and in its forks: Hydra takes 0.1 CPU-seconds for
each, and the tests ask for thousands."""

from __future__ import annotations

import os
import pickle
from collections.abc import Hashable, Iterator
from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf


@cache
def compose_once() -> None:
    """Keep what Hydra makes of each text, and of each choice of groups; single values are set anew.

    Errors are not kept.
    """
    keep_texts()
    keep_choices()
    share_sources()


def keep_texts() -> None:
    usual, parsed = OmegaConf.load, {}

    def load(file: Any) -> Any:
        if not hasattr(file, "read"):
            return usual(file)
        text = file.read()
        if text not in parsed:
            file.seek(0)
            parsed[text] = pickle.dumps(usual(file))
        return pickle.loads(parsed[text])

    OmegaConf.load = staticmethod(load)  # type: ignore[method-assign]


def keep_choices() -> None:
    list_, merge_ = (
        config_loader_impl.create_defaults_list,
        ConfigLoaderImpl._compose_config_from_defaults_list,
    )
    listed: dict[Hashable, DefaultsList] = {}
    merged: dict[Hashable, bytes] = {}

    def list_defaults(repo: Any, config_name: str, overrides_list: Any, **how: bool) -> Any:
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        groups = (str(given.input_line) for given in overrides_list if given not in values)
        repo.chosen = (config_name, *groups, *how.items(), *map(state, repo.get_sources()))
        if repo.chosen not in listed:
            listed[repo.chosen] = list_(repo, config_name, overrides_list, **how)
        return replace(listed[repo.chosen], config_overrides=values)

    def merge(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
        if repo.chosen not in merged:
            made = merge_(self, defaults, repo)
            try:
                merged[repo.chosen] = pickle.dumps(made)
            except pickle.PicklingError:  # a launcher's worker imported its plugin twice
                return made
        return pickle.loads(merged[repo.chosen])

    config_loader_impl.create_defaults_list = list_defaults
    ConfigLoaderImpl._compose_config_from_defaults_list = merge  # type: ignore[method-assign]


def share_sources() -> None:
    """Copy a repository of configs alone, not each source: a search path replaces their list."""

    def copied(self: CachingConfigRepository, delegate: IConfigRepository) -> None:
        self.delegate, self.cache = copy(delegate), {}

    CachingConfigRepository.__init__ = copied  # type: ignore[method-assign]


def state(source: ConfigSource) -> Hashable:
    """Of a folder of configs: tells whether another says the same."""
    return source.scheme(), source.path, *(files(source.path) if source.scheme() == "file" else ())


def files(folder: str) -> Iterator[tuple[str, int, int]]:
    """Path, time of writing and size of each config below ``folder``."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from files(entry.path)
        elif entry.name.endswith(".yaml"):
            yield entry.path, entry.stat().st_mtime_ns, entry.stat().st_size
