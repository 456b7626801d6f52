"""Tab on the command line, through the script that a shell evaluates."""

from __future__ import annotations

import subprocess

import pytest

from agent_scaling.cli.main import VERBS
from tests.cli.test_cli import COMMAND, agent_scaling, one_line

ASK = """
eval "$(agent-scaling completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$(complete -p agent-scaling | grep -o '[a-z_]*bash_completion')"
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("agent-scaling ", {*VERBS, "completion"}),
        ("agent-scaling fo", {"forecast"}),
        ("agent-scaling completion ", {"bash", "zsh", "fish"}),
        ("agent-scaling rollout max_ep", {"max_episode_steps="}),
        ("agent-scaling train policy/core=l", {"policy/core=lstm"}),
        ("agent-scaling train experiment=demo trainer=d", {"trainer=ddp", "trainer=default"}),
        ("agent-scaling train callbacks=", {"callbacks=default"}),
        ("agent-scaling fit so", {"source="}),
        ("agent-scaling trian x", set()),
    ],
)
def test_bash_completes(line: str, offered: set[str]) -> None:
    path = f"{COMMAND.parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", line],
        capture_output=True, text=True, check=True, env={"PATH": path}, timeout=600,
    )  # fmt: skip
    assert done.stderr == ""
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_hydras_script(shell: str) -> None:
    done = agent_scaling("completion", shell)
    assert done.returncode == 0
    assert "complete" in done.stdout
    assert "agent-scaling" in done.stdout


def test_another_shell_is_one_line() -> None:
    assert "bash, zsh, fish" in one_line(agent_scaling("completion", "tcsh"))
