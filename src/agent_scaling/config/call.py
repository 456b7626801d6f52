"""Calls a verb's function with its checked config."""

from __future__ import annotations

import logging
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import call
from omegaconf import DictConfig, ListConfig, MissingMandatoryValue, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError

from agent_scaling.config.beside import share_names
from agent_scaling.config.groups import NAMED
from agent_scaling.config.mistakes import chain_of, unmade
from agent_scaling.config.whole_urls import complete_urls
from agent_scaling.runtime.errors import InputError

MISSING = (MissingMandatoryValue, InterpolationToMissingValueError)
"""Errors that reading a key without a value raises."""


INTERPOLATION = "${"
"""Start of what OmegaConf looks up elsewhere."""


def refuse_interpolations(cfg: DictConfig | ListConfig, path: str = "") -> None:
    """Refuse texts in which OmegaConf would look something up once more.

    On a command line ``\\${a}`` is the text ``${a}``. Hydra reads a config twice before it calls a
    target, and would take another folder than the one that was named.

    Raises:
        InputError: A value's own text holds ``${``.
    """
    for key in list(cfg) if isinstance(cfg, DictConfig) else range(len(cfg)):
        if OmegaConf.is_missing(cfg, key):
            continue
        try:
            value = cfg[key]
        except InterpolationResolutionError:
            continue  # said where the key is read
        if isinstance(value, DictConfig | ListConfig):
            if not value._is_none():
                refuse_interpolations(value, f"{path}{key}.")
        elif isinstance(value, str) and INTERPOLATION in value:
            raise InputError(
                f"{path}{key}={value}: a name with '{INTERPOLATION}' would be looked up as a "
                "setting: rename the file or folder"
            )


def call_verb(cfg: DictConfig) -> Any:
    """Call the verb's function with its config; its errors pass through."""
    with open_dict(cfg):
        cfg.pop("examples", None)
        cfg.update(cfg.pop(NAMED, {}))
    # Imported here: it imports pydantic, for which completion need not wait.
    from agent_scaling.config.check import check_keys, check_values, missing_keys

    share_names()
    complete_urls(cfg)
    refuse_interpolations(cfg)
    check_keys(cfg)
    check_values(cfg)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # the line below says the same
    try:
        return call(cfg)
    except (InstantiationException, *MISSING) as error:
        # Hydra wraps a target's exceptions. None may be raised from what wraps it: where a verb
        # calls another, whoever follows the causes would go round for ever.
        causes = list(chain_of(error))
        if said := next((c for c in causes if isinstance(c, (InputError, *MISSING))), None):
            if isinstance(said, InputError):
                raise said from said.__cause__
            raise InputError(
                f"{', '.join(missing_keys(cfg))}: must be given, as key=value"
            ) from error
        if line := unmade(causes):
            raise InputError(line) from error
        raise causes[-1] from None
