"""Commands that are printed run as they are: quoted for Hydra and for the shell."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from agent_scaling.config.command import command, config_dir, setting

PATHS = [
    "run/checkpoints/last.ckpt",
    "/tmp/lr=1e-3 (a)",
    'it\'s "both"',
    "nao [2021], {b}",
    "$HOME/${x}/\\${y}",
    "C:\\runs\\",
    'a\\"b',
    "~/runs; echo",
    "null",
    "1e3",
    "-é\n?*",
    "tab\t1 bell\x07",
    "not UTF-8 \udcff",
    ":fire: [/x]",
    "",
]


def read(override: str) -> object:
    """Return the value that a verb gets for an override."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return OmegaConf.create({"value": parsed.value()}).value


@pytest.mark.parametrize("path", PATHS)
def test_hydra_reads_a_setting_back(path: str) -> None:
    assert read(setting("data.shards", path)) == path


def test_usual_paths_need_no_quotes() -> None:
    assert setting("ckpt", "run/checkpoints/last.ckpt") == "ckpt=run/checkpoints/last.ckpt"
    assert setting("output", "../runs-2/v0.1") == "output=../runs-2/v0.1"
    assert read(setting("output", None)) is None


def test_what_is_printed_runs_in_a_shell() -> None:
    """Bash runs one line a path, with Python in our program's place, which says what it got."""
    echo = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
    lines = [command("rollout", setting("ckpt", path), "episodes=100") for path in PATHS]
    script = f'agent-scaling() {{ {shlex.join(echo)} "$@"; }}\n' + "\n".join(lines)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words[0] for words in got] == ["rollout"] * len(PATHS)
    assert [read(words[1]) for words in got] == PATHS


def test_a_folder_of_configs_is_no_option() -> None:
    assert config_dir(Path("plans/a")) == ("--config-dir", "plans/a")
    assert config_dir(Path("-plan")) == ("--config-dir", "./-plan")
