import asyncio
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pyte
import pytest

from agent_scaling.envs.families import Description
from agent_scaling.playing.live import live
from agent_scaling.playing.play import play
from agent_scaling.playing.players import RandomPolicy
from agent_scaling.playing.watch import WatchApp, odds, watch
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import small_policy

COMMAND = Path(sys.executable).with_name("agent-scaling")


def test_live_episodes_are_those_of_a_rollout():
    policy, traces, game = small_policy(), {}, {"max_episode_steps": 25, "level_seed": 1}
    table = play(policy, [3, 4], traces=traces, **game)
    with closing(live(policy, 3, **game)) as moments:
        seen = [next(moments) for _ in range(2 * 26)]
    for row in table.to_dict("records"):
        *steps, last = [moment for moment in seen if moment.seed == row["seed"]]
        thoughts = np.stack([moment.thought for moment in steps])
        np.testing.assert_array_equal(thoughts, traces[row["seed"]])
        assert last.thought is None
        assert last.record == {name: row[name] for name in last.record}
        assert [moment.step for moment in steps] == list(range(25))
        assert steps[-1].gained == row["return"]


async def until(pilot, condition):
    """Let the app work until the condition holds; a step of the game takes what it takes."""
    for _ in range(3000):
        if condition():
            return
        await pilot.pause(0.01)
    raise AssertionError("it did not happen")


def test_keys_pause_step_and_change_the_speed():
    async def use(app):
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: app.moment and app.moment.step >= 3)
            assert app.query_one("#mind").region.x >= 80  # beside the screen
            await pilot.press("space")
            await until(pilot, lambda: not app._go.is_set())
            await pilot.pause(0.2)  # a step that was on its way
            step = app.moment.step
            await pilot.press("right")
            await until(pilot, lambda: app.moment.step == step + 1)
            await pilot.press("minus")
            assert app.delay == 2 / 1024
            await pilot.press("plus", "plus")
            assert app.delay == 1 / 1024
            await pilot.press("space")
            await until(pilot, lambda: app.moment.record)  # it waits at the end …
            assert (app.moment.seed, app.moment.record["end"], app.playing) == (5, "cap", False)
            await pilot.press("space")
            await until(pilot, lambda: app.moment.seed == 6)  # … and goes on with the next
            await pilot.press("q")
        assert app.return_code == 0

    moments = live(RandomPolicy(), 5, max_episode_steps=40)
    with closing(moments), ThreadPoolExecutor(1) as executor:
        asyncio.run(use(WatchApp(moments, executor, 0.0)))


def test_odds_stand_beneath_in_a_narrow_terminal():
    async def use(app):
        async with app.run_test(size=(90, 46)) as pilot:
            await until(pilot, lambda: app.moment)
            await pilot.pause()
            assert app.query_one("#mind").region.y >= 24

    moments = live(RandomPolicy(), 0)
    with closing(moments), ThreadPoolExecutor(1) as executor:
        asyncio.run(use(WatchApp(moments, executor, 0.0)))


def read_until(fd, stream, screen, text):
    """Feed the terminal until it shows ``text``; the other end's last words end it too."""
    end = time.monotonic() + 600
    while text not in "\n".join(screen.display):
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise AssertionError("\n".join(screen.display))
        try:
            data = os.read(fd, 65536)
        except OSError:  # Linux's word for a terminal that nobody writes to any more
            raise AssertionError("\n".join(screen.display)) from None
        stream.feed(data)


def test_the_verb_in_a_pseudo_terminal():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    process = subprocess.Popen(
        [COMMAND, "watch", "ckpt=random", "seed=7", "max_episode_steps=4", "delay=0.01"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        # A width in the environment, the test runner's, would come before the terminal's.
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"},
        start_new_session=True,
    )
    os.close(slave)
    screen = pyte.Screen(120, 30)
    stream = pyte.ByteStream(screen)
    try:
        read_until(master, stream, screen, "most probable actions")
        read_until(master, stream, screen, "ended: cap")
        read_until(master, stream, screen, "Agent the Digger")  # seed 7 is an archeologist
        assert "play/pause" in "\n".join(screen.display)
        os.write(master, b"q")
        while True:  # what it says while it leaves must be read, or it waits
            try:
                os.read(master, 65536)
            except OSError:
                break
        assert process.wait(600) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_game_of_pixels_is_refused_with_what_shows_it():
    with pytest.raises(InputError, match=r"atari.*rollout replay=true"):
        watch(ckpt="random", env="Pong")


def test_a_task_shows_its_own_actions():
    game = Description("minihack", {"task": "MiniHack-Room-5x5-v0"})
    with closing(live(RandomPolicy(8, game), 0)) as moments:
        moment = next(moments)
    assert moment.actions == ["N", "E", "S", "W", "NE", "SE", "SW", "NW"]
    assert moment.chars_HW.shape == (24, 80)
    (names, *_) = odds(moment.thought, moment.actions).columns
    assert all(str(cell) in [*moment.actions, "", "entropy", "takes"] for cell in names.cells)


def test_without_a_terminal_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(InputError, match="needs a terminal"):
        watch(ckpt="random")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"level_seed": -1},
        {"sampling": "beam"},
        {"temperature": 0.0},
        {"delay": -1.0},
        {"character": "gandalf"},
        {"device": "abacus"},
        {"max_episode_steps": 0},
    ],
)
def test_bad_input_names_its_key(change):
    with pytest.raises(InputError, match=next(iter(change)) + "="):
        watch(ckpt="random", **change)
