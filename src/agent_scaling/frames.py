"""An episode's screens: played again from its actions, and kept as what changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nle import nethack

from agent_scaling.envs.pool import Pool
from agent_scaling.play import NETHACK
from agent_scaling.screen import COLUMNS, ROWS

SHOWN = ("chars", "colors", "cursor", "blstats")
"""The game's observations that a frame is made of."""
Frame = dict[str, npt.NDArray[Any]]
"""Arrays by name, :data:`SHOWN`."""


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

    def changes(
        self,
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
        """For each frame the cells that change, with their new characters and colours."""
        end = 0
        for count in self.counts_T.tolist():
            begin, end = end, end + count
            cells = np.cumsum(self.gaps[begin:end], dtype=np.int64)
            yield cells, self.chars[begin:end], self.colors[begin:end]


def replayed(
    seed: int, actions: Sequence[int] | npt.NDArray[Any], options: dict[str, Any]
) -> Iterator[Frame]:
    """Each frame before an action of the episode; arrays are reused from one to the next.

    An episode is a function of its seed and its actions, so a worker that is lost costs only time.

    Args:
        seed: The episode's.
        actions: Its actions, from the first.
        options: The game's options, as the episode was played with.
    """
    with Pool(NETHACK, lanes=1, workers=1, groups=1, options=options, observations=SHOWN) as pool:
        pool.assign(0, seed)
        frame = {name: array[0] for name, array in pool.observations.items()}
        step = shown = 0
        while shown < len(actions):
            pool.send(0)
            report = pool.receive(0)
            if report.ended:
                raise RuntimeError(f"episode {seed} went another way when it was played again")
            step = 0 if report.restarted else step
            if not len(pool.ready(0)):
                continue  # the new worker has not begun the episode yet
            if step == shown:
                yield frame
                shown += 1
            pool.actions[0] = actions[step]
            step += 1


def encode_frames(frames: Iterable[Frame]) -> Frames:
    """Keep what changes."""
    chars = np.full(ROWS * COLUMNS, ord(" "), np.uint8)
    colors = np.zeros(ROWS * COLUMNS, np.uint8)
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
