"""Finds the seeds with which recorded games of NetHack were begun, so that they can be replayed."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_scaling.data.recordings.base import Metadata
from agent_scaling.envs.seeds import game_seeds
from agent_scaling.runtime.errors import InputError

NUMBERS = ("core_seed", "display_seed", "level_seed")
COLUMNS = ("recording", *NUMBERS, "character")
"""Columns of a table of seeds; the last three may be missing, or a row's cells empty."""
MOST_BYTES = 1 << 28
"""Most bytes of a table."""
ROLLOUT = re.compile(r"seed-(\d{1,19})")


def read_seeds(path: Path) -> dict[str, Metadata]:
    """Read a CSV of seeds: identity of each recording → what its metadata gain.

    Raises:
        InputError: The table cannot be read, lacks a column, or a seed is no whole number.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"source.seeds={path}: larger than any table of seeds")
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if missing := [name for name in COLUMNS[:2] if name not in (table.fieldnames or ())]:
                columns = ",".join(COLUMNS)
                raise InputError(f"source.seeds={path}: no column {missing[0]}; it has {columns}")
            return {str(row["recording"]): _seeds(path, row) for row in table}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"source.seeds={path}: cannot be read ({error})") from None


def _seeds(path: Path, row: dict[str, str | None]) -> Metadata:
    found: dict[str, str | int] = {}
    for name in NUMBERS:
        text = row.get(name) or ""
        if text and not re.fullmatch(r"[0-9]{1,18}", text):
            raise InputError(f"source.seeds={path}: {name}={text[:40]} is no whole number")
        if text:
            found[name] = int(text)
    if character := row.get("character"):
        found["character"] = character
    return found


def own_seeds(folder: Path) -> Metadata:
    """Return the seeds of a game in ``folder`` that ``demonstrate`` or ``rollout`` recorded.

    Empty for another program's, or where their records are gone.
    """
    game = _json(folder / "game.json")
    if isinstance(seed := game.get("seed"), int):
        character = _text(game.get("options"), "character")
        return {"core_seed": 2 * seed, "display_seed": 2 * seed + 1, "character": character}
    rollout = ROLLOUT.fullmatch(folder.absolute().name)
    settings = _json(folder.absolute().parents[1] / "settings.json") if rollout else {}
    if rollout is None or not settings:
        return {}
    seeds = game_seeds(int(rollout[1]))
    if isinstance(level := settings.get("level_seed"), int):
        seeds = replace(seeds, levels=level)
    return {
        "core_seed": seeds.core,
        "display_seed": seeds.display,
        "level_seed": seeds.levels,
        "hero": settings.get("character") or _text(settings.get("options"), "character"),
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(options: object, name: str) -> str:
    found = options.get(name) if isinstance(options, dict) else None
    return found if isinstance(found, str) else "@"
