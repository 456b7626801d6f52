"""Hydra's composition of configs inside a running program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra

from agent_scaling.config.beside import conf, share_names


@contextmanager
def hydra() -> Iterator[ConfigLoader]:
    """Yield the running verb's Hydra, or start one for a caller that is not a verb."""
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance().config_loader()
        return
    share_names()
    with initialize_config_dir(str(conf()), version_base=None):
        yield GlobalHydra.instance().config_loader()
