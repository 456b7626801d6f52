"""Replays: files that show an episode again, with the policy's odds.

A module here shows a family's episodes; :attr:`Family.viewer
<agent_scaling.envs.families.Family>` names it. Its function ``show(episode)`` returns each file's
suffix and content.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from agent_scaling.envs.families import Description, find_family, find_game
from agent_scaling.playing.play import Traces
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file

KINDS = ("best", "median", "worst")
SHOWN = (
    "seed", "return", "solved", "steps", "turns", "max_depth", "level", "lives", "role", "race",
    "end", "death",
)  # fmt: skip
"""Columns of the episode's row that a replay shows."""


@dataclass(frozen=True)
class Episode:
    """An episode to show; its game, seed and actions determine it."""

    game: Description
    seed: int
    facts: dict[str, Any]
    """The episode's row of the table."""
    trace: npt.NDArray[Any]
    """Odds: [steps] of :data:`agent_scaling.playing.actor.TRACE`."""

    @cached_property
    def actions(self) -> list[str]:
        """Names of the game's actions."""
        family: Any = find_game(self.game.family)
        names: list[str] = family.action_names(**self.game.options)
        return names

    @property
    def title(self) -> str:
        """The facts in one line."""
        return " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.facts.items())


def chosen_episodes(table: pd.DataFrame, which: bool | str) -> dict[str, int]:
    """Kind → seed: the episodes with the highest, the middle and the lowest return.

    Args:
        table: Episodes.
        which: False for none, True for all three kinds, or one of :data:`KINDS`.

    Raises:
        InputError: ``which`` is none of these.
    """
    kinds = check_kinds(which)
    ranked = table[table["end"] != "crashed"].sort_values(["return", "seed"])["seed"].tolist()
    if not ranked:
        return {}
    at = {"best": -1, "median": (len(ranked) - 1) // 2, "worst": 0}
    return {kind: int(ranked[at[kind]]) for kind in kinds}


def check_kinds(which: bool | str) -> tuple[str, ...]:
    """The kinds that ``which`` asks for; raises :class:`InputError` for an unknown one."""
    if isinstance(which, bool):
        return KINDS if which else ()
    if which not in KINDS:
        raise InputError(f"replay={which!r} is none of true, false, {', '.join(KINDS)}")
    return (which,)


def write_replays(
    table: pd.DataFrame, traces: Traces, folder: Path, which: bool | str, game: Description
) -> list[Path]:
    """Write a page, ``<kind>.html``, and a recording for each of the chosen episodes.

    The games are played again from the actions in ``traces``.

    Args:
        table: Episodes.
        traces: Traces by :func:`~agent_scaling.playing.play.play`, at least the chosen episodes'.
        folder: The folder for the files.
        which: See :func:`chosen_episodes`.
        game: The game that was played.

    Returns:
        The files, each page before its recording.

    Raises:
        InputError: ``which`` is unknown, the game is of no family, or a file cannot be written.
    """
    paths: list[Path] = []
    for kind, seed in chosen_episodes(table, which).items():
        family = find_family(game.family)
        row = table[table["seed"] == seed].iloc[0].to_dict()
        facts: dict[str, Any] = {"episode": kind}
        if family.variant:
            facts["game"] = game.options[family.variant]
        facts |= {name: _plain(row[name]) for name in SHOWN if row.get(name, "") != ""}
        viewer = importlib.import_module(family.viewer)
        shown = viewer.show(Episode(game, seed, facts, traces[seed]))
        for suffix, content in shown.items():
            paths.append(folder / f"{kind}.{suffix}")
            write_file(paths[-1], content)
    return paths


def _plain(value: object) -> object:
    """Return the value for JSON, whole numbers without a decimal point."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
