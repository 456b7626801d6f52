"""URLs whose credentials are not on record: completed from the environment where a config has them.

Config files, plans and MLflow hold such URLs masked (:mod:`agent_scaling.runtime.secrets`).
"""

from __future__ import annotations

from omegaconf import DictConfig, ListConfig, OmegaConf

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import MASK, URLS, complete, remember

RECORDS = "tags."
"""Keys of what is only recorded; a URL there may stay masked."""


def complete_urls(cfg: DictConfig | ListConfig, path: str = "") -> None:
    """Complete each masked URL of a config, in place, and hand whole ones on to child processes.

    Raises:
        InputError: A masked URL is not known.
    """
    for key in list(cfg) if isinstance(cfg, DictConfig) else range(len(cfg)):
        if OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key):
            continue
        value = cfg[key]
        if isinstance(value, DictConfig | ListConfig):
            if not value._is_none():
                complete_urls(value, f"{path}{key}.")
        elif isinstance(value, str) and "://" in value and not path.startswith(RECORDS):
            cfg[key] = whole(value, f"{path}{key}")
            remember(cfg[key])


def whole(url: str, key: str) -> str:
    """Return the whole URL whose masked form ``url`` is; a whole one as it is.

    Raises:
        InputError: The environment does not have it.
    """
    found = complete(url)
    if "://" in found and MASK in found:
        raise InputError(
            f"{key}={found}: its password or token is not on record: give the whole URL as {key}=, "
            f"or in the environment variable {URLS}"
        )
    return found
