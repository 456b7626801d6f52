"""Explains errors of Hydra's in one line that suggests the likely intended word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from importlib.resources.abc import Traversable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from agent_scaling.config.beside import conf
from agent_scaling.config.groups import NAMED
from agent_scaling.runtime.errors import InputError

UNTAKEN = (HydraException, OmegaConfBaseException, YAMLError)
"""Errors that composing a config raises."""

NO_GROUP = re.compile(r"^Could not override '(.+?)'\.", re.MULTILINE)
"""Hydra's message for a group that the composed config does not choose from."""

UNMERGED = re.compile(r"Error merging override (.*)", re.DOTALL)

FULL_KEY = re.compile(r"^full_key: (.+)$", re.MULTILINE)

ALIKE, LESS, MOST = 0.75, 0.1, 3
"""Suggestions: the least similarity, of 1; the largest gap to the best one; their number."""


def explain(error: Exception, verb: str) -> str:
    """Return a line on why a verb's config cannot be composed, with the fix where it is clear."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        listed = ", ".join(error.options)
        return f"{group}={option}: no such option{meant(option, error.options)}; of: {listed}"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read as key=value; quote a value that holds '=', "
            "brackets, commas or spaces: 'key=\"a, b\"'"
        )
    for cause in (error, error.__cause__):
        if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
            return f"{no_such_key(cause)} (agent-scaling {verb} --help)"
    if found := NO_GROUP.search(str(error)):
        return f"{found[1]}: {verb} has no such choice (agent-scaling {verb} --help)"
    if found := UNMERGED.match(str(error)):
        return (
            f"{found[1]}: the key holds another kind of value: a list, a mapping or a single one "
            f"(agent-scaling {verb} --help)"
        )
    lines = [line.strip() for line in str(error).partition("Config search path:")[0].splitlines()]
    return " ".join(line for line in lines if line) or type(error).__name__


def check_chosen(verb: str, overrides: Iterable[str]) -> None:
    """Refuse ``callbacks=null``, ``policy=3``: Hydra's choices among configs are names, or lists.

    Raises:
        InputError: An override has the name of a folder of configs, and a value that is no name.
    """
    known = set(groups(conf()))
    for override in overrides:
        key, _, value = override.partition("=")
        group = key.lstrip("+").partition("@")[0]
        if key.startswith("~") or not (group in known or "/" in group):
            continue
        if value in ("null", "~"):
            raise InputError(
                f"{override}: a choice among configs cannot be null; {group}.NAME=null leaves out "
                "one of its keys"
            )
        with suppress(HydraException):  # said where Hydra composes the config
            read = OverridesParser.create().parse_override(override)
            names = chosen if isinstance(chosen := read.value(), list) else [chosen]
            if not (read.is_sweep_override() or all(isinstance(name, str) for name in names)):
                raise InputError(
                    f"{override}: a choice among configs is a name, or a list of names "
                    f"(agent-scaling {verb} --help)"
                )


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the error that it was raised from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def unmade(causes: Sequence[BaseException]) -> str | None:
    """Return a line on the part that its config cannot build, or None for other errors.

    Args:
        causes: The error that Hydra raises for a verb's own target, and its causes.
    """
    parts = [cause for cause in causes[1:] if isinstance(cause, InstantiationException)]
    if not parts or isinstance(causes[-1], AssertionError):
        return None
    if causes[-1] in parts:  # the line that Hydra adds
        return " ".join(str(causes[-1]).split())
    key = FULL_KEY.search(str(parts[0]))
    return f"{key[1] if key else 'config'}: {' '.join(str(causes[-1]).split())}"


def no_such_key(error: OmegaConfBaseException) -> str:
    """Rewrite OmegaConf's error: ``data.lane: no such key; did you mean data.lanes?``."""
    key, node = str(error.full_key), error.parent_node
    known = [*groups(conf()), *keys(node._get_root() if node else None)]
    typed = [name.removeprefix(f"{NAMED}.") for name in known]
    return f"{key}: no such key{meant(key, typed)}"


def meant(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean data.lanes?``, or nothing where no known name is similar."""

    def likeness(other: str) -> float:
        # Compare the whole name or its last part: `lanes` suggests `data.lanes`.
        return max(
            SequenceMatcher(None, name, other).ratio(),
            0.99 * SequenceMatcher(None, name.split(".")[-1], other.split(".")[-1]).ratio(),
        )

    best = sorted(dict.fromkeys(known), key=likeness, reverse=True)[:MOST]
    least = max(ALIKE, likeness(best[0]) - LESS) if best else ALIKE
    near = [other for other in best if likeness(other) >= least]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def keys(cfg: object, path: str = "") -> Iterator[str]:
    """Yield the dotted keys of a config but Hydra's own: ``flops_budget``, ``data.shards``."""
    if not isinstance(cfg, DictConfig):
        return
    for key in map(str, cfg):
        if f"{path}{key}" == "hydra":
            continue
        yield f"{path}{key}"
        if not (OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key)):
            yield from keys(cfg[key], f"{path}{key}.")


def groups(folder: Traversable, path: str = "") -> Iterator[str]:
    """Yield the folders of configs: ``policy``, ``policy/core``."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith("_"):
            yield f"{path}{entry.name}"
            yield from groups(entry, f"{path}{entry.name}/")
