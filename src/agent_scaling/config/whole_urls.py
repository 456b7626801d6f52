"""Completes the masked URLs of a config from the environment.

Config files, plans and MLflow hold such URLs masked (:mod:`agent_scaling.runtime.secrets`).
"""

from __future__ import annotations

from omegaconf import DictConfig, ListConfig, OmegaConf

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import MASK, URLS, complete, remember

RECORDS = "tags."
"""Beginning of keys whose values are only recorded; a URL there may stay masked."""


def complete_urls(cfg: DictConfig | ListConfig, path: str = "") -> None:
    """Complete the masked URLs of a config in place, and hand whole ones to child processes.

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
        elif path.startswith(RECORDS):
            continue
        elif value == MASK:
            raise InputError(
                f"{path}{key}={MASK}: its value is not on record: give it again, or keep it in the "
                f"environment, as {path}{key}='${{oc.env:NAME}}'"
            )
        elif isinstance(value, str) and "://" in value:
            cfg[key] = whole(value, f"{path}{key}")
            remember(cfg[key])


def whole(url: str, key: str) -> str:
    """Return the whole URL behind a masked one, and a whole URL as it is.

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
