"""Scripted experts for Atari, which read the console's memory instead of the screen.

Addresses are those of Anand et al. (2019, arXiv 1906.08226); distances are the console's units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Memory = npt.NDArray[np.uint8]
"""The console's 128 bytes."""


class Expert(Protocol):
    """A scripted player of one episode."""

    def act(self, memory: Memory) -> str:
        """Return the name of ALE's action to take."""


class Follower:
    """Keeps a paddle that has momentum under a ball, from no more than four frames.

    It aims at where the ball will be ``LEAD`` steps on, from where the paddle would come to rest,
    and stands still within ``REACH``, half of what one press moves. So no press calls for its
    opposite, and no action depends on what has left the screen. A policy that sees the frames can
    learn this rule, because each side of the comparison is linear in positions.
    """

    ACROSS: ClassVar[int]
    """Address of the ball's position along the paddle's way."""
    ALONG: ClassVar[int]
    """Address of the ball's position along the other axis; a value of 0 there means no ball."""
    PADDLE: ClassVar[int]
    """Address of the paddle's position."""
    CENTRE: ClassVar[float]
    """Ball's position minus paddle's where their centres meet."""
    LEAD: ClassVar[float]
    KEYS: ClassVar[tuple[str, str]]
    """Keys towards smaller and towards larger positions."""
    STILL: ClassVar[str]
    """The action that keeps the paddle still, and serves where there is no ball."""
    REACH, GLIDE, JUMP = 11.0, 0.5, 20.0

    def __init__(self) -> None:
        self.before: tuple[float, float, float] | None = None

    def act(self, memory: Memory) -> str:
        """Return one of the keys, or ``STILL``."""
        ball, along, paddle = (float(memory[a]) for a in (self.ACROSS, self.ALONG, self.PADDLE))
        was, was_along, paddle_was = self.before or (ball, along, paddle)
        self.before = ball, along, paddle
        if along == 0:
            return self.STILL
        # Nothing moves as far between two steps as a new ball is from the old one.
        new = abs(ball - was) > self.JUMP or abs(along - was_along) > self.JUMP
        target = ball if new else ball + self.LEAD * (ball - was)
        off = target - (paddle + self.GLIDE * (paddle - paddle_was)) - self.CENTRE
        return self.STILL if abs(off) <= self.REACH else self.KEYS[off > 0]


class Breakout(Follower):
    """Follows the ball; fires instead of doing nothing, which is the same while there is a ball.

    Otherwise only one frame in 300 would be a service, and a clone that has not learned to serve
    would stand still for ever.
    """

    ACROSS, ALONG, PADDLE, CENTRE, LEAD = 99, 101, 72, 9, 1.5
    KEYS, STILL = ("LEFT", "RIGHT"), "FIRE"


class Pong(Follower):
    """Follows the ball; RIGHT moves up, LEFT moves down."""

    ACROSS, ALONG, PADDLE, CENTRE, LEAD = 54, 49, 51, 7, 1.0
    KEYS, STILL = ("RIGHT", "LEFT"), "NOOP"


class Freeway:
    """Always goes up: a car throws the chicken back a little, and waiting costs more."""

    def act(self, memory: Memory) -> str:
        """Return UP, whatever the memory holds."""
        return "UP"


EXPERTS: dict[str, Callable[[], Expert]] = {"breakout": Breakout, "pong": Pong, "freeway": Freeway}
"""ALE's name of a game → its expert, for one episode."""
