"""The ``watch`` verb: a policy plays live in the terminal, its odds beside the game."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, ClassVar

import numpy as np
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Footer, Static

from agent_scaling.envs.families import find_family
from agent_scaling.envs.screens import COLUMNS, ROWS
from agent_scaling.playing.live import Moment, live
from agent_scaling.playing.options import PlayOptions
from agent_scaling.playing.players import find_policy
from agent_scaling.playing.replays.screen import BACKGROUND, screen_text
from agent_scaling.policies.inference import find_device
from agent_scaling.runtime.errors import InputError

FASTEST_S = 1 / 1024
MIND_WIDTH = 36
TAKEN, LIKELY, DIM = "#ffd166", "#5b8fd9", "#9aa2ad"


def watch(
    *,
    ckpt: str,
    game: str | None = None,
    env: str | None = None,
    device: str = "auto",
    delay: float = 0.1,
    **how: Any,
) -> None:
    """Play live in the terminal; ``rollout`` plays the same episodes with these values.

    Args:
        ckpt: A checkpoint of ``train`` or ``import``; ``random`` for uniformly random keys.
        game: A family of :mod:`agent_scaling.envs.families`; by default the checkpoint's.
        env: A game of the family; by default the checkpoint's.
        device: ``auto``, or torch's name of a device.
        delay: Initial seconds between steps, which keys change.
        how: See :class:`~agent_scaling.playing.options.PlayOptions`; ``block=1`` is fastest here.

    Raises:
        InputError: A value is out of its range, the checkpoint cannot be used, or there is no
            terminal.
    """
    chosen = PlayOptions(**how)
    if not delay >= 0:
        raise InputError(f"delay={delay} must not be negative")
    where = find_device(device)
    policy = find_policy(ckpt, game, env, chosen.rules)
    if not find_family(policy.game.family).live:
        raise InputError(
            f"ckpt={ckpt} plays {policy.game.family}, which no terminal can show; "
            "`agent-scaling rollout replay=true` writes replays for a browser"
        )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            "watch needs a terminal for its screen and keys; without one, "
            "`agent-scaling rollout replay=true` writes replays to files"
        )
    moments = live(
        policy,
        chosen.seed,
        sampling=chosen.drawing,
        sampling_seed=chosen.sampling_seed,
        block=chosen.block,
        device=where,
    )
    # Wait for the thread first: a running generator cannot be closed.
    with closing(moments), ThreadPoolExecutor(1) as executor:
        app = WatchApp(moments, executor, delay)
        app.run()
    if app.return_code:
        sys.exit(app.return_code)


class WatchApp(App[None]):
    """The game's screen, the policy's odds, and keys.

    Args:
        moments: The frames to show; the app waits at the end of each episode.
        executor: Runs the game and the policy, so that the app reads keys meanwhile.
        delay: Seconds between steps.
    """

    CSS = f"""
    Screen {{ background: #14161a; }}
    #stage {{ layout: horizontal; overflow: auto; }}
    #screen {{ width: {COLUMNS}; height: {ROWS}; background: {BACKGROUND}; margin-right: 2; }}
    #mind {{ width: {MIND_WIDTH}; height: auto; }}
    .-narrow #stage {{ layout: vertical; }}
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (COLUMNS + MIND_WIDTH, "-wide")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "play/pause"),
        Binding("right", "step", "step"),
        Binding("plus,equals_sign", "faster", "faster", key_display="+"),
        Binding("minus", "slower", "slower", key_display="-"),
        Binding("q,ctrl+c", "quit", "quit", key_display="q"),
    ]

    def __init__(
        self, moments: Iterator[Moment], executor: ThreadPoolExecutor, delay: float
    ) -> None:
        super().__init__()
        self.moments, self.executor, self.delay = moments, executor, delay
        self.playing = True
        self.moment: Moment | None = None
        """The moment on the screen."""
        self._game, self._thoughts = Static("starting the game …", id="screen"), Static(id="mind")
        self._go = asyncio.Event()

    def compose(self) -> ComposeResult:
        """Yield the parts of the screen."""
        with Container(id="stage"):
            yield self._game
            yield self._thoughts
        yield Footer()

    def on_ready(self) -> None:
        """Start playing when the screen is ready."""
        self._go.set()
        self.run_worker(self._follow())

    def action_pause(self) -> None:
        """Play or pause; after an episode's end, start the next."""
        self._play(not self.playing)

    def action_step(self) -> None:
        """One step, then wait."""
        self._play(False)
        self._go.set()

    def action_faster(self) -> None:
        """Halve the delay between frames."""
        self.delay = max(self.delay / 2, FASTEST_S)
        self._show()

    def action_slower(self) -> None:
        """Double the delay between frames."""
        self.delay = max(self.delay, FASTEST_S) * 2
        self._show()

    def _play(self, playing: bool) -> None:
        self.playing = playing
        if playing:
            self._go.set()
        else:
            self._go.clear()
        self._show()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._go.wait()
            self.moment = await loop.run_in_executor(self.executor, next, self.moments)
            if self.moment.record is not None:
                self.playing = False
            if not self.playing:
                self._go.clear()
            self._show()
            await asyncio.sleep(self.delay)

    def _show(self) -> None:
        moment = self.moment
        if moment is None or not self._game.is_attached:  # not yet; not any more
            return
        self._game.update(screen_text(moment.chars_HW, moment.colors_HW, moment.cursor))
        state = f"playing, {self.delay:.3g} s a step" if self.playing else "paused"
        self._thoughts.update(mind(moment, state))


def mind(moment: Moment, state: str) -> RenderableType:
    """Return the panel beside the screen.

    Args:
        moment: The frame that is shown.
        state: The state of play: playing, paused or ended.
    """
    facts = Text(style=DIM)
    facts.append(f"seed {moment.seed} · step {moment.step} · turn {moment.turn}\n")
    facts.append(f"return {moment.gained} · score {moment.score}\n")
    if moment.record is not None:
        how = " · ".join(filter(None, (moment.record["end"], moment.record.get("death"))))
        facts.append(f"\nended: {how}\n", style=TAKEN)
        facts.append(f"space: the next episode, seed {moment.seed + 1}")
    if moment.thought is None:
        return facts
    facts.append(f"{state}\n\nmost probable actions")
    return Group(facts, odds(moment.thought, moment.actions))


def odds(thought: np.void, actions: Sequence[str]) -> Table:
    """Return the five most probable actions, with the taken one marked, and the entropy."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=11, no_wrap=True)
    table.add_column(width=14)
    table.add_column(width=9, justify="right")
    taken = thought["action"]
    shown = thought["top"][: len(actions)]
    for action, probability in zip(shown, thought["probability"], strict=False):
        color = TAKEN if action == taken else LIKELY
        name = Text(actions[action], TAKEN if action == taken else "")
        table.add_row(name, Bar(1, 0, float(probability), color=color), f"{probability:.1%}")
    nats = float(thought["nats"])
    table.add_row()
    entropy = Bar(float(np.log(len(actions))), 0, nats, color=DIM)
    table.add_row("entropy", entropy, f"{nats:.2f} nats")
    table.add_row("takes", Text(actions[taken], TAKEN))
    return table
