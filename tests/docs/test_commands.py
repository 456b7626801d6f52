"""Every command that the documentation shows names verbs, keys, files and flags that are there."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.conftest import ROOT
from tests.docs.commands import (
    NEWCOMERS,
    PAGES,
    REASONS,
    Command,
    UnknownProgramError,
    check,
    commands,
    examples,
)

ELSEWHERE = ("extending.md",)
"""Pages whose commands run as they stand, in a test of their own."""
SHOWN = [c for page in PAGES if page.name not in ELSEWHERE for c in commands(page)]
RUN = {
    command.words
    for command in SHOWN
    if command.page.name in NEWCOMERS and command.words[0] == "agent-scaling" and not command.why
}
ALL = {command.words: command for command in (*examples(), *SHOWN) if command.words not in RUN}


@pytest.mark.parametrize("command", ALL.values(), ids=str)
def test_a_command_names_what_is_there(command: Command) -> None:
    try:
        check(command.words)
    except UnknownProgramError:
        assert command.why in REASONS


@pytest.mark.parametrize("why", sorted({c.why for c in SHOWN if c.why}))
def test_what_is_not_run_says_why(why: str) -> None:
    assert why in REASONS


@pytest.mark.parametrize(
    "line",
    [
        "agent-scaling trian experiment=nethack_bc",
        "agent-scaling train flops_bugdet=1e9",
        "agent-scaling train experiment=nethack_cb",
        "agent-scaling sweep plan=grid hydra/launcher=submitit_slurm hydra.launcher.gpu=1",
        "python benchmarks/policy.py --rouns 3",
        "python benchmarks/polciy.py",
        "make dmeo",
        "pip install 'agent-scaling[minihak]'",
        "sbatch docs/slurm/trian.sbatch",
        "sbatch --wrap 'agent-scaling rollout ckpt=x epsiodes=1'",
        "agentscaling train",
        "agent-scaling study study=paper_atari hydra.launcher.partition=gpu",
        "agent-scaling study study=paper_atari +launcher.hydra.launcher.gpu=1",
        "agent-scaling plan name=x train.experiment=nethack_bc train.policy.core.widht=4",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        check(tuple(shlex.split(line)))


def test_the_demo_is_made_of_commands_that_are_there() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "--silent", "demo", "INSTALLED="],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = re.findall(r"^\S*(agent-scaling .*)$", shown, re.M)
    assert len(lines) == 3
    for line in lines:
        check(tuple(shlex.split(line)))


def test_the_quick_check_is_of_tests_that_are_there() -> None:
    """``make test`` runs them, too."""
    shown = subprocess.run(
        ["make", "--dry-run", "--silent", "check", "FOR_TESTS="],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (quick,) = re.findall(r"-m pytest (.*)$", shown, re.M)
    check(("pytest", *shlex.split(quick)))
    made = re.findall(r"^make (?:--\S+ )*(\w+)$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert {"lint", "test"} <= set(made)
