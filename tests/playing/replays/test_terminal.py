import json
import os
import signal

import numpy as np
import pandas as pd
import pyte
import pytest

from agent_scaling.envs.families import Description
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.playing.actor import TRACE
from agent_scaling.playing.play import play
from agent_scaling.playing.players import RandomPolicy
from agent_scaling.playing.replays import chosen_episodes, write_replays
from agent_scaling.playing.replays.cast import FRAMES_PER_SECOND
from agent_scaling.playing.replays.frames import SHOWN, encode_frames
from agent_scaling.playing.replays.page import unpack
from agent_scaling.playing.replays.replay import replayed
from agent_scaling.playing.replays.screen import PALETTE, PRINTABLE, screen_text
from agent_scaling.runtime.errors import InputError

STEPS = 60
GAME = Description("nethack", {"max_episode_steps": STEPS})


@pytest.fixture(scope="module")
def played():
    """A table of three episodes and their traces."""
    traces = {}
    return play(RandomPolicy(), range(3), max_episode_steps=STEPS, traces=traces), traces


@pytest.fixture(scope="module")
def written(played, tmp_path_factory):
    """The folder of all replays of the episodes."""
    folder = tmp_path_factory.mktemp("replays")
    paths = write_replays(*played, folder, True, GAME)
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


@pytest.fixture(scope="module")
def best(played):
    """The best episode's frames, as the game shows them, and its trace."""
    seed = chosen_episodes(played[0], "best")["best"]
    trace = played[1][seed]
    copies = [
        {name: array.copy() for name, array in frame.items()}
        for frame in replayed(GAME, seed, trace["action"], SHOWN)
    ]
    return copies, trace


def page_content(path):
    text = path.read_text()
    begin = text.index('type="application/json">') + len('type="application/json">')
    return json.loads(text[begin : text.index("</script>", begin)])


def decode(arrays):
    """The page's decoding, in numpy: each frame's characters and colours."""
    chars, colors = np.full(1920, 32, np.uint8), np.zeros(1920, np.uint8)
    position = 0
    for count in unpack(arrays["counts"]):
        part = slice(position, position + int(count))
        cells = np.cumsum(unpack(arrays["gaps"])[part], dtype=np.int64)
        chars[cells] = unpack(arrays["chars"])[part]
        colors[cells] = unpack(arrays["colors"])[part]
        position += int(count)
        yield chars.reshape(24, 80).copy(), colors.reshape(24, 80).copy()


def test_pages_hold_the_frames_and_what_the_policy_thought(played, written, best):
    content = page_content(written / "best.html")
    seed = chosen_episodes(played[0], "best")["best"]
    assert content["facts"]["seed"] == seed
    assert content["facts"]["episode"] == "best"
    assert content["palette"] == list(PALETTE)
    arrays, (frames, trace) = content["arrays"], best
    for (chars, colors), shown in zip(decode(arrays), frames, strict=True):
        np.testing.assert_array_equal(chars, shown["chars"])
        np.testing.assert_array_equal(colors, shown["colors"].view(np.uint8))
    assert len(frames) == len(trace) == played[0].set_index("seed").loc[seed, "steps"]
    assert unpack(arrays["action"]).tolist() == trace["action"].tolist()
    probability = unpack(arrays["probability"]) / 65535
    np.testing.assert_allclose(probability, 1 / 121, atol=1e-4)
    assert (unpack(arrays["entropy"]) == 65535).all()  # uniform: as high as it can be


def test_pages_need_nothing_from_outside(written):
    text = (written / "worst.html").read_text()
    assert "http" not in text
    assert "src=" not in text
    for refused in ("localStorage", "<form", "alert("):  # what a sandboxed frame may not do
        assert refused not in text


def test_casts_draw_the_frames_in_a_terminal(written, best):
    header, *events = map(json.loads, (written / "best.cast").read_text().splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, 80, 26)
    assert header["theme"]["palette"].count(":") == 15
    frames, trace = best
    terminal = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(terminal)
    reversed_cells = 0
    for step, (time, kind, data) in enumerate(events):
        assert (time, kind) == (step / FRAMES_PER_SECOND, "o")
        stream.feed(data)
        shown = frames[step]
        lines = ["".join(PRINTABLE[char] for char in row) for row in shown["chars"]]
        assert terminal.display[:24] == lines
        assert (terminal.cursor.y, terminal.cursor.x) == tuple(shown["cursor"])
        for row, column in np.argwhere(shown["colors"] >= 16):
            assert terminal.buffer[row][column].reverse
            reversed_cells += 1
        assert f"step {step} · turn {shown['blstats'][20]} " in terminal.display[24]
        assert terminal.display[25].count(" 1%") == 5
    assert len(events) == len(trace)


def test_terminal_colours():
    chars = np.full((24, 80), ord("x"), np.uint8)
    colors = np.full((24, 80), 7, np.int8)
    colors[3, :2], colors[4, 0] = (9, 21), 9
    frame = {"chars": chars, "colors": colors, "cursor": np.zeros(2, np.uint8)}
    frame["blstats"] = np.zeros(27, np.int64)
    assert encode_frames([frame, frame]).counts_T.tolist() == [1920, 0]
    text = screen_text(chars, colors, (0, 5))
    styles = {span.start: span.style for span in text.spans}
    line = 81  # characters of a row and its end
    assert styles[5].reverse
    assert styles[3 * line].color.name == PALETTE[9]
    assert styles[3 * line + 1].color.name == PALETTE[5]
    assert styles[3 * line + 1].reverse
    assert not styles[4 * line].reverse
    assert text.plain == "\n".join(["x" * 80] * 24)


@pytest.mark.usefixtures("new_interpreters")
def test_a_lost_worker_does_not_change_a_replay(best, played, monkeypatch):
    pools = []
    enter = Pool.__enter__
    monkeypatch.setattr(Pool, "__enter__", lambda pool: (pools.append(pool), enter(pool))[1])
    frames, trace = best
    seed = chosen_episodes(played[0], "best")["best"]
    again = []
    for step, frame in enumerate(replayed(GAME, seed, trace["action"], SHOWN)):
        again.append(frame["chars"].copy())
        if step == 20:
            os.kill(pools[0].pids()[0], signal.SIGKILL)
    assert pools[0].lost == 1
    np.testing.assert_array_equal(again, [frame["chars"] for frame in frames])


def test_best_median_and_worst_are_by_return():
    table = pd.DataFrame(
        {
            "seed": [4, 5, 6, 7],
            "return": [1.0, 9.0, 3.0, np.nan],
            "end": ["death"] * 3 + ["crashed"],
        }
    )
    assert chosen_episodes(table, True) == {"best": 5, "median": 6, "worst": 4}
    assert chosen_episodes(table, False) == {}
    with pytest.raises(InputError, match="funniest"):
        chosen_episodes(table, "funniest")
    assert TRACE.itemsize == 18
