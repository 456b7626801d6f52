"""Checks that each game starts and steps, in a process of its own that may crash."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from agent_scaling.cli.doctor.findings import Asked, Finding, broken, ok, warning
from agent_scaling.cli.doctor.packages import installed
from agent_scaling.envs import goldens

STEPS = 20
PATIENCE = 60.0
"""Seconds until a game counts as hung."""
PLAY = "from agent_scaling.cli.doctor.games import step; step(*{})"


def nethack(asked: Asked) -> Finding:
    """Check that NetHack plays, through NLE."""
    return play("nethack", {}, "pip install --force-reinstall --no-cache-dir nle", "nle")


def minihack(asked: Asked) -> Finding:
    """Check that MiniHack plays, where it is installed."""
    if installed("minihack") is None:
        return ok("not installed (optional: pip install 'agent-scaling[minihack]')")
    options = {"task": "MiniHack-Room-5x5-v0"}
    return play("minihack", options, "pip install 'agent-scaling[minihack]'", "minihack")


def atari(asked: Asked) -> Finding:
    """Check that Atari plays, through ALE, whose package holds the games."""
    fix = "pip install --force-reinstall ale-py opencv-python-headless"
    return play("atari", {"env": "Breakout"}, fix, "ale-py")


def recorded(asked: Asked) -> Finding:
    """Check that a seed gives the game that it gives elsewhere, by some games' first steps."""
    command = [sys.executable, "-P", "-m", "agent_scaling.envs.goldens", "--first"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode not in (0, 1) or not done.stdout:
        *_, line = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return broken(f"the recorded games do not play ({line})", "see the games' lines")
    line = done.stdout.splitlines()[-1]
    here = ", ".join(f"{package} {number}" for package, number in goldens.installed().items())
    if done.returncode == 0:
        return ok(f"{line} ({here})")
    there = [f"{name}=={number}" for name, number in goldens.recorded()[0].items()]
    return warning(
        f"{line}: the same seeds give other games here ({here})",
        f"pip install {' '.join(there)}; or compare tables only with those made here",
    )


def play(family: str, options: dict[str, Any], fix: str, package: str) -> Finding:
    """Start a game in another process and step it there."""
    # -P: a module in the current folder must not shadow a package.
    command = [sys.executable, "-P", "-c", PLAY.format(json.dumps([family, options]))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return broken(f"{family} does not answer within {PATIENCE:.0f} s", fix)
    if done.returncode < 0:
        return broken(f"{family} crashes (signal {-done.returncode})", fix)
    if done.returncode:
        *_, line = done.stderr.strip().splitlines() or [f"{family}: status {done.returncode}"]
        return broken(line.removeprefix("agent_scaling.runtime.errors.InputError: "), fix)
    return ok(f"{package} {installed(package)}: {STEPS} steps")


def step(family: str, options: dict[str, Any]) -> None:
    """Start a game of a family and repeat its first action for a few steps."""
    from agent_scaling.envs.families import find_game

    game = find_game(family)({}, **options)
    game.reset(0)
    for _ in range(STEPS):
        if game.step(0) is not None:
            game.reset(0)
    game.close()
