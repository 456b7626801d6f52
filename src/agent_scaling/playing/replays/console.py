"""Replays of consoles with a screen of pixels: a page, and an animated GIF."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from agent_scaling.envs.families import find_game
from agent_scaling.playing.replays import Episode
from agent_scaling.playing.replays.page import page
from agent_scaling.playing.replays.replay import Frame, replayed

OBSERVATIONS = ("screen", "score", "lives")
CHUNK = 128
"""Frames that a page inflates at a time."""
GIF_FRAMES, GIF_MS = 300, 50
"""Most frames of a GIF, evenly spaced over the episode, and milliseconds of each."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Screens:
    """An episode's screens; each pixel is an index into the palette."""

    palette: Pixels
    """[colours, 3]: red, green, blue."""
    size: tuple[int, int]
    """Rows and columns of a screen."""
    chunks: list[bytes]
    """Deflated chunks of at most :data:`CHUNK` screens: the first one whole, each other one as its
    exclusive or with the one before it."""
    few: list[Pixels]
    """The screens that the GIF shows."""
    score_T: npt.NDArray[np.int32]
    lives_T: npt.NDArray[np.uint8]


def show(episode: Episode) -> dict[str, bytes]:
    """Return the ``html`` page and the ``gif``."""
    options, actions = episode.game.options, episode.trace["action"]
    family: Any = find_game(episode.game.family)
    frames = replayed(episode.game, episode.seed, actions, OBSERVATIONS)
    screens = encode_screens(frames, family.screen_rows(options["env"]), len(actions))
    content = page(
        "console",
        episode,
        {"score": screens.score_T, "lives": screens.lives_T},
        palette=screens.palette.tolist(),
        size=screens.size,
        chunk=CHUNK,
        chunks=[base64.b64encode(chunk).decode() for chunk in screens.chunks],
    )
    return {"html": content, "gif": gif(screens)}


def encode_screens(frames: Iterable[Frame], rows: int, steps: int) -> Screens:
    """Encode the screens as chunks of changes.

    Args:
        frames: Frames of an episode, with :data:`OBSERVATIONS`.
        rows: Rows of the screen.
        steps: Steps of the episode.
    """
    palette, scores, lives, few = Palette(), [], [], []
    stride = -(-steps // GIF_FRAMES)
    chunks: list[list[Pixels]] = []
    before: Pixels = np.zeros((0, 0), np.uint8)
    for step, frame in enumerate(frames):
        indexed = palette.index(frame["screen"][:rows])
        if step % CHUNK == 0:
            chunks.append([indexed])
        else:
            chunks[-1].append(indexed ^ before)
        if step % stride == 0:
            few.append(indexed)
        before = indexed
        scores.append(int(frame["score"][0]))
        lives.append(int(frame["lives"][0]))
    return Screens(
        palette=palette.colors(),
        size=(before.shape[0], before.shape[1]),
        chunks=[zlib.compress(np.stack(chunk).tobytes(), 9) for chunk in chunks],
        few=few,
        score_T=np.array(scores, np.int32),
        lives_T=np.array(lives, np.uint8),
    )


class Palette:
    """Colours in the order of their first use; a console has at most 256 (ALE's has 128)."""

    def __init__(self) -> None:
        self._codes: list[int] = []
        self._places = np.full(1 << 24, -1, np.int16)  # indexed by 24-bit colour

    def index(self, screen_HW3: Pixels) -> Pixels:
        """Return uint8 [rows, columns]: each pixel's index into the palette."""
        parts = screen_HW3.astype(np.uint32)
        code_HW = parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]
        places_HW = self._places[code_HW]
        if places_HW.min() < 0:
            new = np.unique(code_HW[places_HW < 0])
            self._places[new] = len(self._codes) + np.arange(len(new))
            self._codes += new.tolist()
            places_HW = self._places[code_HW]
        places: Pixels = places_HW.astype(np.uint8)
        return places

    def colors(self) -> Pixels:
        """The colours so far, [colours, 3]."""
        shifts = np.array([16, 8, 0])
        colors: Pixels = (np.array(self._codes)[:, None] >> shifts & 255).astype(np.uint8)
        return colors


def gif(screens: Screens) -> bytes:
    """Return the animation; pixels are twice as wide as high, as on a television."""
    images = []
    for indexed in screens.few:
        image = Image.fromarray(indexed.repeat(2, axis=1))
        image.putpalette(screens.palette.tobytes())
        images.append(image)
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=GIF_MS, loop=0)
    return file.getvalue()
