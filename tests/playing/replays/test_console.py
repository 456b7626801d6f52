"""Replays of Atari: the page holds the console's screens, and the GIF some of them."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from agent_scaling.envs.atari import Atari
from agent_scaling.envs.families import Description
from agent_scaling.playing.play import play
from agent_scaling.playing.players import RandomPolicy
from agent_scaling.playing.replays import write_replays
from agent_scaling.playing.replays.console import GIF_FRAMES, Palette
from agent_scaling.playing.replays.page import unpack

STEPS = 310  # of three chunks, the last one not full
GAME = Description("atari", {"env": "Freeway", "max_episode_steps": STEPS})


def console(env: str, **options: Any) -> tuple[Atari, dict[str, NDArray[Any]]]:
    views = {n: np.zeros(shape, dtype) for n, (shape, dtype) in Atari.observations.items()}
    return Atari(views, env=env, **options), views


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[Any], dict[str, Path]]:
    """The trace of an episode of Freeway, which has three actions, and its files by suffix."""
    traces: dict[int, NDArray[Any]] = {}
    table = play(RandomPolicy(3, GAME), [6], traces=traces, workers=1)
    folder = tmp_path_factory.mktemp("replays")
    paths = write_replays(table, traces, folder, "best", GAME)
    return traces[6], {path.suffix: path for path in paths}


def content_of(page: Path) -> dict[str, Any]:
    text = page.read_text()
    begin = text.index('type="application/json">') + len('type="application/json">')
    found: dict[str, Any] = json.loads(text[begin : text.index("</script>", begin)])
    return found


def screens_of(content: dict[str, Any]) -> NDArray[np.uint8]:
    """The page's decoding, in numpy: [steps, rows, columns, 3]."""
    chunks = []
    for text in content["chunks"]:
        changes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
        chunks.append(np.bitwise_xor.accumulate(changes.reshape(-1, *content["size"]), axis=0))
    return np.array(content["palette"], np.uint8)[np.concatenate(chunks)]


def test_pages_hold_the_consoles_screens(
    written: tuple[NDArray[Any], dict[str, Path]],
) -> None:
    trace, files = written
    content = content_of(files[".html"])
    shown = screens_of(content)
    assert shown.shape == (STEPS, 210, 160, 3)
    game, views = console(**GAME.options)
    game.reset(6)
    for step, action in enumerate(trace["action"].tolist()):
        assert np.array_equal(shown[step], views["screen"][:210])
        assert unpack(content["arrays"]["score"])[step] == game.score
        game.step(action)
    assert content["actions"] == ["NOOP", "UP", "DOWN"]
    assert content["shown"] == 3
    assert (content["facts"]["game"], content["facts"]["seed"]) == ("Freeway", 6)
    np.testing.assert_allclose(trace["probability"][:, :3], 1 / 3, atol=1e-3)
    for name in ("action", "probability", "entropy"):
        assert len(unpack(content["arrays"][name])) % STEPS == 0


def test_pages_need_nothing_from_outside(written: tuple[NDArray[Any], dict[str, Path]]) -> None:
    text = written[1][".html"].read_text()
    assert "http" not in text
    for refused in ("localStorage", "<form", "alert(", "src="):
        assert refused not in text


def test_gifs_show_the_episode_in_at_most_so_many_frames(
    written: tuple[NDArray[Any], dict[str, Path]],
) -> None:
    shown = screens_of(content_of(written[1][".html"]))
    with Image.open(io.BytesIO(written[1][".gif"].read_bytes())) as animation:
        assert animation.size == (320, 210)
        milliseconds = 0
        for frame in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(frame)
            milliseconds += animation.info["duration"]
        assert milliseconds == 50 * STEPS // 2  # each second step
        assert animation.n_frames <= GIF_FRAMES  # type: ignore[attr-defined]
        animation.seek(0)
        assert np.array_equal(np.asarray(animation.convert("RGB"))[:, ::2], shown[0])


def test_the_screen_in_colour_is_of_the_pixels_that_the_policy_sees() -> None:
    """Each colour has one grey; MsPacman's ghosts are in one of two console frames."""
    plain, seen = console("MsPacman", frame_skip=1, sticky=0.0, noop_max=0)
    game, views = console("MsPacman", sticky=0.0, noop_max=0)
    plain.reset(0)
    game.reset(0)
    number, grey_of = np.array([1 << 16, 1 << 8, 1]), np.full(1 << 24, -1, np.int16)
    both = 0
    for _ in range(40):
        game.step(3)
        for _ in range(4):
            plain.step(3)
            grey_of[seen["screen"][:210] @ number] = plain.ale.getScreenGrayscale()
        both += not np.array_equal(views["screen"], seen["screen"])
        whole = grey_of[views["screen"][:210] @ number]
        assert (whole >= 0).all()
        resized = cv2.resize(whole.astype(np.uint8), (84, 84), interpolation=cv2.INTER_AREA)
        assert np.array_equal(resized, views["frame"])
    assert both > 10


def test_palettes_keep_places_as_they_grow() -> None:
    palette, rng = Palette(), np.random.default_rng(0)
    colours = rng.integers(0, 256, (9, 3)).astype(np.uint8)
    screens = [colours[rng.integers(0, last, (4, 5))] for last in (3, 6, 9)]
    indexed = [palette.index(screen) for screen in screens]
    for screen, places in zip(screens, indexed, strict=True):
        assert np.array_equal(palette.colors()[places], screen)
