"""Replays: one HTML file that plays an episode offline, with what the policy thought."""

from __future__ import annotations

import base64
import json
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from agent_scaling.actions import NUM_ACTIONS, action_name
from agent_scaling.cast import cast
from agent_scaling.episodes import write_text
from agent_scaling.errors import InputError
from agent_scaling.frames import Frames, encode_frames, replayed
from agent_scaling.play import Traces
from agent_scaling.screen import PALETTE

KINDS = ("best", "median", "worst")
PROBABILITY_STEPS = 65535  # probabilities and entropies travel as 16 bits
SHOWN = ("seed", "return", "steps", "turns", "max_depth", "level", "role", "race", "end", "death")
"""Columns of the episode's row that the page shows."""


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
    table: pd.DataFrame,
    traces: Traces,
    folder: Path,
    which: bool | str,
    **options: Any,
) -> list[Path]:
    """Write ``<kind>.html`` and ``<kind>.cast`` for the chosen episodes.

    The games are played again, by the actions in ``traces``: an episode is a function of its seed
    and its actions.

    Args:
        table: Episodes.
        traces: What :func:`~agent_scaling.play.play` filled; of the chosen episodes at least.
        folder: Where the files go.
        which: See :func:`chosen_episodes`.
        options: The game's options, as the episodes were played with.

    Returns:
        The files, each page before its cast.
    """
    paths = []
    for kind, seed in chosen_episodes(table, which).items():
        row = table[table["seed"] == seed].iloc[0].to_dict()
        frames = encode_frames(replayed(seed, traces[seed]["action"], options))
        known = {name: _plain(row[name]) for name in SHOWN if row[name] != ""}
        facts = {"episode": kind, **known}
        title = " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
        for suffix, content in (
            ("html", page(facts, frames, traces[seed])),
            ("cast", cast(title, frames, traces[seed])),
        ):
            paths.append(folder / f"{kind}.{suffix}")
            write_text(content, paths[-1])
    return paths


def page(facts: dict[str, Any], frames: Frames, trace: npt.NDArray[Any]) -> str:
    """The HTML file."""
    most = np.log(NUM_ACTIONS)
    arrays: dict[str, npt.NDArray[Any]] = {
        "counts": frames.counts_T,
        "gaps": frames.gaps,
        "chars": frames.chars,
        "colors": frames.colors,
        "cursor": frames.cursor_T2,
        "turn": frames.turn_T,
        "score": frames.score_T,
        "action": trace["action"],
        "top": trace["top"],
        "probability": _sixteen_bits(trace["probability"]),
        "entropy": _sixteen_bits(trace["nats"] / most),
    }
    content = {
        "facts": facts,
        "maxEntropy": float(most),
        "palette": PALETTE,
        "actions": [action_name(index) for index in range(NUM_ACTIONS)],
        "arrays": {name: _packed(array) for name, array in arrays.items()},
    }
    # "</" would end the script element, wherever it stands.
    text = json.dumps(content).replace("</", "<\\/")
    template = files("agent_scaling").joinpath("replay.html").read_text()
    return template.replace("/*CONTENT*/", text, 1)


def unpack(packed: dict[str, str]) -> npt.NDArray[Any]:
    """The array that a page holds; what its script does."""
    return np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), packed["type"])


def _packed(array: npt.NDArray[Any]) -> dict[str, str]:
    """Flat little-endian bytes under deflate, as text."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode()
    return {"type": array.dtype.name, "data": data}


def _sixteen_bits(fractions: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    scaled = fractions.astype(np.float64).clip(0, 1) * PROBABILITY_STEPS
    return scaled.round().astype(np.uint16)


def _plain(value: Any) -> Any:
    """For JSON, whole numbers without a point."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
