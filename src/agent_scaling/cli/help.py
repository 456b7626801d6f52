"""The text of ``agent-scaling <verb> --help``: examples, keys, groups, and their keys."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from agent_scaling.config.beside import conf
from agent_scaling.config.groups import NAMED, Group, groups_of
from agent_scaling.config.mistakes import meant
from agent_scaling.runtime.errors import InputError

OWN = ("defaults", "examples", "hydra", "_target_", "_convert_", "_recursive_")
"""Keys that nobody sets on the command line."""

WIDTH = 79
BREAKS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def help_text(
    verb: str, cfg: DictConfig, choices: Mapping[str, str | None], loader: ConfigLoader
) -> str:
    """Return a verb's help, with the options that the command line chooses.

    Args:
        verb: The verb.
        cfg: Its config, composed.
        choices: Group → option.
        loader: Hydra's loader of configs.
    """
    own = own_keys(verb)
    text = [*head(verb), *map(command, cfg.examples.splitlines())]
    text += ["\nKeys (key=value) and their defaults; ??? must be given:\n"]
    text += [row for lines in own.values() for row in rows(lines)]
    if groups := list(groups_of(verb, choices, loader)):
        text += ["\nGroups (group=option): what is chosen, and of what:\n", *table(groups)]
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    if parts := [*sections({k: v for k, v in plain.items() if k not in (*own, *OWN, NAMED)})]:
        text += ["\nKeys of what is chosen; give other choices before --help to see theirs:\n"]
        text += [filled(f"{name} ", words) for name, words in parts]
    return "\n".join([*text, f"\nThe whole config, resolved: agent-scaling {verb} … --cfg job\n"])


def check_top_keys(verb: str, cfg: DictConfig, groups: Iterable[str]) -> None:
    """Raise :class:`InputError` for a key that was added to a verb without free keys."""
    content: Any = OmegaConf.to_container(OmegaConf.create(file_of(verb)))
    lists = [group for entry in content["defaults"] if isinstance(entry, dict) for group in entry]
    known = {*own_keys(verb), *(group.partition("/")[0] for group in (*groups, *lists))}
    for key in map(str, cfg):
        if key not in (*known, *OWN, NAMED):
            raise InputError(f"{key}: no such key{meant(key, known)} (agent-scaling {verb} --help)")


def head(verb: str) -> list[str]:
    """Return the comment at the top of a verb's file, and an empty line."""
    lines = file_of(verb).splitlines()
    said = [line.removeprefix("# ") for line in lines[: lines.index("defaults:")]]
    return [filled("", said, ""), ""] if said else []


def command(line: str) -> str:
    """Break a command into lines that a shell still reads as one."""
    lines = textwrap.wrap(line, WIDTH - 2, subsequent_indent="    ", **BREAKS)
    return " \\\n".join(lines)


def own_keys(verb: str) -> dict[str, list[str]]:
    """Map each top key of a verb's file to its lines, after those of the verbs it builds on."""
    text = file_of(verb)
    content: Any = OmegaConf.to_container(OmegaConf.create(text))
    found: dict[str, list[str]] = {}
    for entry in content["defaults"]:
        if isinstance(entry, str) and entry not in ("_self_", "hydra_defaults"):
            found |= own_keys(entry)
    return found | blocks(text)


def blocks(text: str) -> dict[str, list[str]]:
    """Map each top key to its lines; the keys below :data:`NAMED` count as top keys."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"^(?=\w+:)", text, flags=re.M)[1:]:
        key, lines = block.partition(":")[0], block.rstrip().splitlines()
        if key == NAMED:
            found |= blocks("\n".join(x[2:].replace(" #", "   #", 1) for x in lines[1:]))
        elif key not in OWN:
            found[key] = lines
    return found


def rows(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a key; a long comment is wrapped below it."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        value, _, comment = line.partition("# ")
        if found and not value.strip():
            found[-1][1].extend(comment.split())
        else:
            found.append((value, comment.split()))
    for value, words in found:
        yield filled(f"{value}# ", words, f"{'':{len(value)}}# ") if words else value


def file_of(verb: str) -> str:
    """Return the text of a verb's config."""
    return (conf() / f"{verb}.yaml").read_text()


def table(groups: Iterable[Group]) -> Iterator[str]:
    """Yield a row of the table per group."""
    found = [(f"{group.name}={shown(group.chosen)}", group) for group in groups]
    width = max(len(chosen) for chosen, _ in found) + 2
    for chosen, group in found:
        below = " " * width
        yield filled(f"{chosen:<{width}}", [", ".join(group.options)], below)
        if group.parts:
            example = f"'{group.name}=[{group.parts[0]},{group.chosen}]'"
            yield filled(below, [f"a part is added by {example}:", ", ".join(group.parts)], below)


def sections(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, list[str]]]:
    """(``policy.encoder.``, ``width=512``, …) of each level that has values."""
    levels = {key: value for key, value in node.items() if isinstance(value, Mapping) and value}
    values = {key: value for key, value in node.items() if key not in levels and key[0] != "_"}
    if values:
        yield path, [f"{key}={shown(value)}" for key, value in values.items()]
    for key, value in levels.items():
        yield from sections(value, f"{path}{key}.")


def shown(value: object) -> str:
    """Return a value as one types it on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return value if isinstance(value, str) and value else json.dumps(value)


def filled(first: str, words: Iterable[str], below: str = "    ") -> str:
    """Wrap a paragraph that begins with ``first``, and its other lines with ``below``."""
    text = " ".join(words)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=below, **BREAKS)
