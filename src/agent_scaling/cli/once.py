"""Hydra's composition of a verb's config, once where Hydra composes it twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hydra._internal import hydra as internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import DictConfig

LOADER = "ConfigLoaderImpl"
"""The name by which Hydra makes its loader of configs."""
AS_A_RUN = "hydra.mode=RUN"
"""The override that Hydra adds where nobody has set the mode."""


class OnceLoader(ConfigLoaderImpl):
    """Answers Hydra's question for ``hydra.mode`` with the config that it asks for next.

    Hydra composes a config to read its mode, throws it away, and composes it again to run it.
    """

    _kept: tuple[str | None, list[str], DictConfig] | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a config, or return the one that was composed for its mode."""
        kept, self._kept = self._kept, None
        if run_mode == RunMode.MULTIRUN and not validate_sweep_overrides:  # asks for the mode
            words = list(overrides)  # Hydra adds to its list
            # Values for several runs, and mistakes, which Hydra meets again, are not kept.
            with suppress(Exception):
                cfg = super().load_configuration(config_name, words, RunMode.RUN, from_shell)
                self._kept = config_name, words, cfg
                return cfg
        elif run_mode == RunMode.RUN and kept is not None:
            name, words, cfg = kept
            same, added = overrides[: len(words)], overrides[len(words) :]
            if (name, words) == (config_name, same) and added in ([], [AS_A_RUN]):
                cfg.hydra.overrides.hydra.extend(added)
                return cfg
        return super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )


@contextmanager
def composed_once() -> Iterator[None]:
    """Have ``hydra.main`` use :class:`OnceLoader`; a Hydra without that name composes twice."""
    usual = vars(internal).get(LOADER)
    if usual is not ConfigLoaderImpl:
        yield
        return
    setattr(internal, LOADER, OnceLoader)
    try:
        yield
    finally:
        setattr(internal, LOADER, usual)
