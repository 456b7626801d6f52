"""Replays: one HTML file that plays an episode offline, with what the policy thought."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from nle import nethack

from agent_scaling.actions import NUM_ACTIONS, action_name
from agent_scaling.envs.pool import Pool
from agent_scaling.episodes import write_text
from agent_scaling.errors import InputError
from agent_scaling.play import NETHACK, Traces

KINDS = ("best", "median", "worst")
PROBABILITY_STEPS = 65535  # probabilities and entropies travel as 16 bits
SHOWN = ("seed", "return", "steps", "turns", "max_depth", "level", "role", "race", "end", "death")
"""Columns of the episode's row that the page shows."""


@dataclass(frozen=True)
class Frames:
    """An episode's frames as the changes from each to the next; the first changes a blank screen.

    Indices count the cells of the 24×80 screen row by row; within a frame they ascend, and each is
    kept as the difference from the one before.
    """

    counts_T: npt.NDArray[np.uint16]
    gaps: npt.NDArray[np.uint16]
    chars: npt.NDArray[np.uint8]
    colors: npt.NDArray[np.uint8]
    cursor_T2: npt.NDArray[np.uint8]
    turn_T: npt.NDArray[np.uint32]
    score_T: npt.NDArray[np.uint32]


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
    """Write ``replay_<kind>.html`` for the chosen episodes.

    The games are played again, by the actions in ``traces``: an episode is a function of its seed
    and its actions.

    Args:
        table: Episodes.
        traces: What :func:`~agent_scaling.play.play` filled.
        folder: Where the files go.
        which: See :func:`chosen_episodes`.
        options: The game's options, as the episodes were played with.
    """
    paths = []
    for kind, seed in chosen_episodes(table, which).items():
        row = table[table["seed"] == seed].iloc[0].to_dict()
        frames = encode_frames(replayed(seed, traces[seed]["action"], options))
        facts = {"episode": kind, **{name: row[name] for name in SHOWN if row[name] != ""}}
        path = folder / f"replay_{kind}.html"
        write_text(page(facts, frames, traces[seed]), path)
        paths.append(path)
    return paths


def replayed(
    seed: int, actions: Sequence[int] | npt.NDArray[Any], options: dict[str, Any]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Each frame before an action of the episode; arrays are reused from one to the next."""
    with Pool(NETHACK, lanes=1, workers=1, groups=1, options=options) as pool:
        pool.assign(0, seed)
        for action in actions:
            pool.send(0)
            report = pool.receive(0)
            if report.ended or report.restarted:
                raise RuntimeError(f"episode {seed} went another way when it was played again")
            yield {name: array[0] for name, array in pool.observations.items()}
            pool.actions[0] = action


def encode_frames(frames: Iterator[dict[str, npt.NDArray[Any]]]) -> Frames:
    """Keep what changes."""
    chars, colors = np.full(24 * 80, ord(" "), np.uint8), np.zeros(24 * 80, np.uint8)
    parts: dict[str, list[npt.NDArray[Any]]] = {"gaps": [], "chars": [], "colors": []}
    counts, cursors, turns, scores = [], [], [], []
    for frame in frames:
        new_chars, new_colors = frame["chars"].ravel(), frame["colors"].ravel().view(np.uint8)
        changed = np.flatnonzero((new_chars != chars) | (new_colors != colors))
        parts["gaps"].append(np.diff(changed, prepend=0).astype(np.uint16))
        parts["chars"].append(new_chars[changed])
        parts["colors"].append(new_colors[changed])
        chars, colors = new_chars.copy(), new_colors.copy()
        counts.append(len(changed))
        cursors.append(frame["cursor"].copy())
        turns.append(int(frame["blstats"][nethack.NLE_BL_TIME]))
        scores.append(max(0, int(frame["blstats"][nethack.NLE_BL_SCORE])))
    joined = {name: np.concatenate(rows) for name, rows in parts.items()}
    return Frames(
        counts_T=np.array(counts, np.uint16),
        cursor_T2=np.array(cursors, np.uint8),
        turn_T=np.array(turns, np.uint32),
        score_T=np.array(scores, np.uint32),
        **joined,
    )


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
        "facts": {name: _plain(value) for name, value in facts.items()},
        "maxEntropy": float(most),
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
    return value.item() if isinstance(value, np.generic) else value
