"""Calls a verb's function with its checked config."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import call
from omegaconf import DictConfig, MissingMandatoryValue, open_dict
from omegaconf.errors import InterpolationToMissingValueError

from agent_scaling.config.beside import share_names
from agent_scaling.config.groups import NAMED
from agent_scaling.config.mistakes import chain_of, unmade
from agent_scaling.config.whole_urls import complete_urls
from agent_scaling.runtime.errors import InputError

MISSING = (MissingMandatoryValue, InterpolationToMissingValueError)
"""Errors that reading a key without a value raises."""


def call_verb(cfg: DictConfig) -> Any:
    """Call the verb's function with its config; its errors pass through."""
    with open_dict(cfg):
        cfg.pop("examples", None)
        cfg.update(cfg.pop(NAMED, {}))
    # Imported here: it imports pydantic, for which completion need not wait.
    from agent_scaling.config.check import check_keys, check_values, missing_keys

    share_names()
    complete_urls(cfg)
    check_keys(cfg)
    check_values(cfg)
    try:
        return call(cfg)
    except (InstantiationException, *MISSING) as error:
        # Hydra wraps a target's exceptions.
        causes = list(chain_of(error))
        if said := next((c for c in causes if isinstance(c, (InputError, *MISSING))), None):
            if isinstance(said, InputError):
                raise said from error
            raise InputError(
                f"{', '.join(missing_keys(cfg))}: must be given, as key=value"
            ) from error
        if line := unmade(causes):
            raise InputError(line) from error
        raise causes[-1] from error
