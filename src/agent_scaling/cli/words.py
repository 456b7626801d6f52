"""The words of a command line, rewritten as Hydra's overrides: ``key=value``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agent_scaling.config.beside import conf
from agent_scaling.config.command import setting
from agent_scaling.config.groups import NAMED
from agent_scaling.runtime.errors import InputError

BARE = {"compare": ("first", "second")}
"""Verb → the keys whose values may be typed without a key, in this order."""
LIGHTNINGS = re.compile(
    r"trainer\.(strategy|num_nodes|max_time|deterministic|benchmark|detect_anomaly|fast_dev_run"
    r"|limit_train_batches|overfit_batches|log_every_n_steps|profiler|plugins|sync_batchnorm)="
)
"""Arguments of Lightning's Trainer that our configs leave out, as one types them."""
OPTIONS = (
    "-c",
    "--cfg",
    "-p",
    "--package",
    "-i",
    "--info",
    "-cn",
    "--config-name",
    "-cp",
    "--config-path",
    "-cd",
    "--config-dir",
)
"""Options of Hydra's that the next word belongs to."""


def as_overrides(verb: str, words: Sequence[str]) -> list[str]:
    """Return a verb's words as overrides; bare ones become values of the keys not given.

    Raises:
        InputError: There are more bare words than keys for them.
    """
    keys = BARE.get(verb, ())
    bare = bare_words(words) if keys else []
    given = {word.partition("=")[0] for i, word in enumerate(words) if i not in bare}
    free = [key for key in keys if key not in given]
    if len(bare) > len(free):
        raise InputError(
            f"{words[bare[len(free)]]}: one word too many; {verb} takes {' and '.join(keys)} "
            f"(agent-scaling {verb} --help)"
        )
    settings = {i: setting(key, words[i]) for key, i in zip(free, bare, strict=False)}
    return [settings.get(i) or as_named(verb, word) for i, word in enumerate(words)]


def bare_words(words: Sequence[str]) -> list[int]:
    """Return the places of the words that are values without a key.

    They are no options of Hydra's, nor what belongs to one, and have no ``=`` but in the name of a
    file.
    """
    return [
        i
        for i, word in enumerate(words)
        if word[:1] not in "-+~"
        and words[i - 1 : i] not in [[option] for option in OPTIONS]
        and ("=" not in word or Path(word).exists())
    ]


def as_named(verb: str, override: str) -> str:
    """Rewrite ``study=NAME`` as ``named.study=NAME`` where the verb's config has ``named.study``.

    Hydra would read a key that is also a folder of configs as a choice from that folder. It asks
    for ``+`` before a key that a config lacks, such as ``trainer.strategy``, which Lightning has.
    """
    if verb == "train" and LIGHTNINGS.match(override):
        return f"++{override}"
    return f"{NAMED}.{override}" if override.partition("=")[0] in named_keys(verb) else override


@cache
def named_keys(verb: str) -> frozenset[str]:
    """Return the keys that the verb's config has below ``named``."""
    cfg: Any = OmegaConf.to_container(OmegaConf.load(conf() / f"{verb}.yaml"))
    return frozenset(cfg.get(NAMED, {}))
