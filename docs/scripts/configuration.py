"""The configuration reference: every key of conf/ with its default and its comment, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

HEAD = """# Configuration

Every key of every verb and group, from the files in `conf/`. `agent-scaling <verb> --help` shows a
verb's, with those of the options that are chosen (`agent-scaling train data=mixed --help`), and
`agent-scaling <verb> … --cfg job` the whole config that a command makes. `???` must be given;
`null` is nothing.

- `key=value` sets a key, with dots for keys within (`data.lanes=64`); `+key=value` adds one that is
  not listed, where the part behind it takes more arguments than its file names.
- `group=option` chooses a file: `policy/core=mamba`; `callbacks.rollouts=null` takes a part out.
- Values are Hydra's: quote what the shell would read, `'sizes={policy.encoder.width:[1,3]}'`.
"""
NAMED = "named."
"""Before the keys of a verb that are groups in other verbs; nobody types it."""
WHOLE = ("experiment", "study")
"""Groups of settings of other groups' keys: shown as they are."""


@dataclass(frozen=True)
class Key:
    """A key of a file, dotted; its value and its comment as they are written."""

    name: str
    value: str
    comment: str


def configuration_page(conf: Path) -> str:
    """The page's Markdown."""
    verbs = [path for path in sorted(conf.glob("*.yaml")) if path.stem != "hydra_defaults"]
    parts = [HEAD, "## Verbs\n", *(verb_section(path, conf) for path in verbs), "## Groups\n"]
    folders = sorted({path.parent for path in conf.glob("*/**/*.yaml")})
    parts += [group_section(folder, conf) for folder in folders]
    shared = (conf / "hydra_defaults.yaml").read_text()
    parts += ["## What every verb shares\n", f"```yaml\n{shared}```\n"]
    return "\n".join(parts)


def verb_section(path: Path, conf: Path) -> str:
    """A verb: what it is for, its keys, its groups, examples."""
    parts = [f"### {path.stem}\n", head_comment(path), facts(path), table(path)]
    rows = [f"| `{g}` | `{default}` | {names(conf / g)} |" for g, default in chosen_groups(path)]
    if rows:
        parts.append("\n".join(["| group | default | options |", "|---|---|---|", *rows]) + "\n")
    examples = yaml.safe_load(path.read_text()).get("examples")
    if examples:
        lines = [line.strip() for line in examples.splitlines()]
        commands = [line for line in lines if line.startswith(("agent-scaling", "sbatch"))]
        parts.append("```sh\n" + "\n".join(commands) + "\n```\n")
    return "\n".join(part for part in parts if part)


def group_section(folder: Path, conf: Path) -> str:
    """A group: each of its options."""
    group = folder.relative_to(conf).as_posix()
    parts = [f"### {group}=\n"]
    for path in sorted(folder.glob("*.yaml")):
        parts.append(f"#### {group}={path.stem}\n")
        if group in WHOLE:
            parts.append(f"```yaml\n{path.read_text()}```\n")
        else:
            parts += [head_comment(path), facts(path), table(path)]
    return "\n".join(part for part in parts if part)


def facts(path: Path) -> str:
    """What a file makes, and what it begins with."""
    content = yaml.safe_load(path.read_text()) or {}
    said = [f"Makes `{content['_target_']}`."] if "_target_" in content else []
    entries = content.get("defaults", [])
    bases = [d for d in entries if isinstance(d, str) and d not in ("_self_", "hydra_defaults")]
    if bases:
        said.append("Begins with " + ", ".join(f"`{base}`" for base in bases) + ".")
    return " ".join(said) + "\n" if said else ""


def chosen_groups(path: Path) -> Iterator[tuple[str, str]]:
    """The groups of a file's defaults, and which option is chosen."""
    for entry in yaml.safe_load(path.read_text()).get("defaults", []):
        if isinstance(entry, dict):
            for group, option in entry.items():
                if group.startswith("override "):  # of Hydra's own
                    continue
                yield group.removeprefix("optional "), "null" if option is None else option


def names(folder: Path) -> str:
    """The options of a group, linked to where they are described."""
    found = sorted(path.stem for path in folder.glob("*.yaml"))
    return ", ".join(f"`{name}`" for name in found)


def head_comment(path: Path) -> str:
    """The comment at a file's top as a paragraph, its commands as code."""
    text, code = [], []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("#   "):
            code.append(line[4:])
        elif not line.startswith("# @package"):
            text.append(line.removeprefix("#").strip())
    block = "```sh\n" + "\n".join(code) + "\n```\n" if code else ""
    return "\n".join(part for part in (" ".join(text) + "\n" if text else "", block) if part)


def table(path: Path) -> str:
    """A file's keys."""
    rows = [
        f"| `{key.name}` | `{key.value}` | {escaped(key.comment)} |"
        if key.value
        else f"| `{key.name}` | | {escaped(key.comment)} |"
        for key in keys(path)
    ]
    if not rows:
        return ""
    return "\n".join(["| key | default | |", "|---|---|---|", *rows]) + "\n"


def escaped(comment: str) -> str:
    """For a table's cell."""
    return comment.replace("|", "\\|").replace("<", "&lt;")


def keys(path: Path) -> list[Key]:
    """All keys of a file but Hydra's own and the examples, in their order."""
    text = path.read_text()
    root = yaml.compose(text)
    lines = text.splitlines()
    return list(walk(root, "", text, lines)) if isinstance(root, yaml.MappingNode) else []


def walk(node: yaml.MappingNode, prefix: str, text: str, lines: list[str]) -> Iterator[Key]:
    """The keys below a mapping; a mapping in one line is a value."""
    for name, value in node.value:
        dotted = prefix + name.value
        own = name.value.startswith("_") or (not prefix and name.value in ("defaults", "examples"))
        if own or (not prefix and name.value == "hydra"):
            continue
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            said = comment(lines, name.start_mark.line)
            if said and f"{dotted}." != NAMED:
                yield Key(dotted, "", said)
            yield from walk(value, f"{dotted}.", text, lines)
        else:
            written = text[value.start_mark.index : value.end_mark.index].strip()
            yield Key(
                dotted.removeprefix(NAMED),
                " ".join(written.split()),
                comment(lines, value.end_mark.line),
            )


def comment(lines: list[str], number: int) -> str:
    """The comment behind a line and in the lines after it that hold nothing else."""
    _, _, first = lines[number].partition(" #")
    found = [first.strip()] if first else []
    for line in lines[number + 1 :] if first else []:
        if not line.strip().startswith("#"):
            break
        found.append(line.strip().lstrip("# "))
    return " ".join(found)
