"""The commands of the documentation: found in its ``sh`` blocks, and checked without being run."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from agent_scaling.cli.main import VERBS
from agent_scaling.cli.words import as_overrides
from agent_scaling.config.check import flatten
from agent_scaling.studies.experiments import Bases, compose_train
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
NEWCOMERS = ("quickstart.md", "own_data.md", "human_data.md", "studies.md", "rollouts.md")
"""Pages whose commands are run, in this order: tests/docs/test_newcomer.py."""
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^>]*) -->\n)?```sh\n(?P<body>.*?)^```$", re.M | re.S)
REASONS = (
    "needs the network",
    "needs a cluster",
    "starts a server",
    "takes minutes",
    "takes hours",
)
"""Why a block is not run, or may hold programs that are not ours: what it may say before it."""
BASES: Bases = {}
"""What plans have composed of ``train``, for those that differ from them in values alone."""


class UnknownProgramError(Exception):
    """A command of a program that is not ours."""


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: Path
    words: tuple[str, ...]
    why: str | None
    """Why it is not run, where its block says so."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {shlex.join(self.words)}"


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page's ``sh`` blocks, without comments."""
    for block in BLOCK.finditer(page.read_text()):
        for line in block["body"].replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield Command(page, tuple(words), block["why"])


def examples() -> Iterator[Command]:
    """The commands that the configs show: at their heads, and for ``--help``."""
    for path in sorted((ROOT / "conf").glob("**/*.yaml")):
        text = path.read_text()
        shown = (yaml.load(text, yaml.CSafeLoader) or {}).get("examples", "")
        shown += "".join(f"{line[1:]}\n" for line in text.splitlines() if line.startswith("#   "))
        for line in shown.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["agent-scaling"]:
                yield Command(path, tuple(words), None)


def check(words: tuple[str, ...]) -> None:
    """Raise where a command names what is not there.

    Raises:
        AssertionError: An unknown verb, file, flag, target or extra.
        HydraException: A verb's config cannot be composed with these overrides.
        InputError: A plan's settings of ``train`` cannot.
        UnknownProgramError: It is none of ours.
    """
    words = tuple(w for w in words if w != "…")
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    if program == "agent-scaling":
        check_verb(rest)
    elif program == "python":
        check_benchmark(rest)
    elif program == "make":
        known = re.findall(r"^(\w+)(?::| [:?]?=)", (ROOT / "Makefile").read_text(), re.M)
        assert {word.partition("=")[0] for word in rest} <= set(known), words
    elif program == "pip":
        check_extras(rest)
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in rest), words
    elif program == "sbatch":
        check_job(rest)
    elif program == "source":
        assert rest == (".venv/bin/activate",)
    elif not (ROOT / program).is_file():
        raise UnknownProgramError(shlex.join(words))


def check_verb(words: tuple[str, ...]) -> None:
    """Compose the verb's config with the overrides, as the command line does."""
    if not words:
        return
    verb, *overrides = words
    assert verb in VERBS, verb
    folders = [overrides[i + 1] for i, word in enumerate(overrides) if word == "--config-dir"]
    given = [o for o in overrides if o not in ("--config-dir", *folders, "--help", "--cfg", "job")]
    if folders:  # its experiments are there once it has been planned
        given = [o for o in given if not o.startswith("experiment=")]
    with initialize_config_module("conf", version_base=None):
        given = as_overrides(verb, given)
        cfg = compose(verb, given, return_hydra_config=True)
    if verb in ("plan", "study"):
        check_plan(cfg)


def check_plan(cfg: DictConfig) -> None:
    """Compose ``train`` with what a plan sets, and ``sweep`` with its launcher."""
    shared = flatten(OmegaConf.to_container(cfg.train))
    if shared.get("data.shards") is None:
        shared.pop("data.shards", None)
    if OmegaConf.is_missing(cfg.train, "experiment"):
        return
    compose_train(shared, {}, BASES)  # with variants: tests/studies/test_study.py
    launcher = flatten(OmegaConf.to_container(cfg.launcher))
    compose_sweep(tuple(f"{key}={value}" for key, value in launcher.items()))


@cache
def compose_sweep(launcher: tuple[str, ...]) -> None:
    """Compose ``sweep`` with a plan's launcher, once for all plans that have it."""
    with initialize_config_module("conf", version_base=None):
        compose("sweep", ["plan=x", *launcher], return_hydra_config=True)


def check_benchmark(words: tuple[str, ...]) -> None:
    """A benchmark is there and knows the flags."""
    path = ROOT / words[0]
    assert path.is_file(), path
    tree = ast.parse(path.read_text())
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    flags = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert flags <= constants, (words[0], flags - constants)


def check_extras(words: tuple[str, ...]) -> None:
    """``pip install 'agent-scaling[…]'``: the extras are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [re.fullmatch(r"(agent-scaling|\.)\[(.+)\]", word) for word in words[1:]]
    extras = {extra for match in found if match for extra in match[2].split(",")}
    assert extras <= set(project["optional-dependencies"]), words


def check_job(words: tuple[str, ...]) -> None:
    """A job's script is there, or the command that it wraps is one of ours."""
    if "--wrap" in words:
        check(tuple(shlex.split(words[words.index("--wrap") + 1])))
        return
    scripts = [word for word in words if word.endswith((".sbatch", ".sh"))]
    assert [script for script in scripts if (ROOT / script).is_file()] == scripts != [], words


def tiny(command: Command, swaps: Mapping[str, str]) -> list[str]:
    """A command's words with each that is in ``swaps`` replaced by the words that stand there."""
    return [
        new for word in command.words for new in shlex.split(swaps.get(word, shlex.quote(word)))
    ]
