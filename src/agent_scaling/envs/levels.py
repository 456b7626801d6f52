"""Descriptions of MiniHack's levels are compiled before they are played.

Where a description is missing or does not compile, MiniHack prints that and plays another level.
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from nle.nethack.nethack import HACKDIR

from agent_scaling.runtime.errors import InputError

LEVEL = "mylevel"
"""The level that MiniHack plays; a description may define others beside it."""


def check_level(task: str, description: object) -> None:
    """Check that a description defines the level to be played.

    Args:
        task: MiniHack's task.
        description: A des-file, of the user's or one of MiniHack's own, or the text of one; None
            where the task brings its own.

    Raises:
        InputError: A task of custom levels has none, the file is missing, or it does not compile.
    """
    if description is None:
        if "Custom" in task:
            raise InputError(f"task={task} needs a level: +options.des_file=FILE.des")
        return
    if isinstance(description, str) and description.endswith(".des"):
        path = find_description(description)
        _check_text(path.read_bytes(), f"options.des_file={description}")
    else:
        _check_text(str(description).encode(), "options.des_file")


def find_description(name: str) -> Path:
    """Return the user's des-file ``name``, or else that of MiniHack."""
    from minihack.level_generator import PATH_DAT_DIR

    for path in (Path(name), Path(PATH_DAT_DIR, name)):
        if path.is_file():
            return path
    raise InputError(f"options.des_file={name}: no such file, here or among MiniHack's levels")


@cache
def _check_text(text: bytes, named: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{LEVEL}.des").write_bytes(text)
        compile_it = [str(Path(HACKDIR, "lev_comp")), f"{LEVEL}.des"]
        done = subprocess.run(compile_it, cwd=folder, capture_output=True, text=True, check=False)
        said = " ".join((done.stderr + done.stdout).split()).removeprefix(f"{LEVEL}.des: ")
        if done.returncode:
            raise InputError(f"{named} does not compile: {said or done.returncode}")
        if not Path(folder, f"{LEVEL}.lev").exists():
            raise InputError(f"{named} defines no level {LEVEL!r}, which MiniHack plays")
