"""Keeps a verb's settings in its output folder, so that a repeated call goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_scaling.runtime.errors import InputError, reading
from agent_scaling.runtime.files import write_file
from agent_scaling.runtime.secrets import masked


def keep(settings: Mapping[str, Any], path: Path, holds: str) -> None:
    """Write the settings to ``path``, without the credentials of URLs.

    Args:
        settings: Plain values by key.
        path: A file in the verb's output folder.
        holds: What the folder holds, for the message: ``"turns"``.

    Raises:
        InputError: The folder was begun with other settings, or holds something else.
    """
    now, folder = json.loads(json.dumps(masked(settings))), path.parent
    if path.exists():
        with reading(path, "give another output="):
            before = dict(json.loads(path.read_text()))
        if other := sorted(k for k in now if before.get(k) != now[k]):
            raise InputError(
                f"output={folder}: its {holds} have other settings ({', '.join(other)}); "
                "give another output="
            )
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"output={folder}: holds something else; give another output=")
    write_file(path, json.dumps(now, indent=2))
