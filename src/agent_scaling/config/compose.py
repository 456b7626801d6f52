"""Hydra's composition of configs inside a running program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra


@contextmanager
def hydra() -> Iterator[ConfigLoader]:
    """Hydra's own: that of the verb that runs, or one for a caller that is no verb."""
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance().config_loader()
        return
    with initialize_config_module("conf", version_base=None):
        yield GlobalHydra.instance().config_loader()
