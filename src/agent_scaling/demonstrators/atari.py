"""Scripted experts for Atari: they read the console's memory, where a policy sees the screen.

Addresses are those of Anand et al. (2019, arXiv 1906.08226); distances are the console's units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Memory = npt.NDArray[np.uint8]
"""The console's 128 bytes."""


class Expert(Protocol):
    """Plays one episode."""

    def act(self, memory: Memory) -> str:
        """The name of ALE's action to take."""


def folded(position: float, low: float, high: float) -> float:
    """Where something that bounces off two walls is, if it would be at ``position`` without."""
    away = (position - low) % (2 * (high - low))
    return low + min(away, 2 * (high - low) - away)


class Ball:
    """Where the ball is, how fast it moves, and where it will cross a line."""

    def __init__(self, across: int, along: int, walls: tuple[float, float]) -> None:
        self.across, self.along, self.walls = across, along, walls
        self.at = self.speed = (0.0, 0.0)

    def look(self, memory: Memory) -> bool:
        """Take note of the memory; whether there is a ball."""
        at = float(memory[self.across]), float(memory[self.along])
        self.speed = at[0] - self.at[0], at[1] - self.at[1]
        self.at = at
        return at[1] != 0

    def crossing(self, line: float) -> float | None:
        """Where it will cross ``line``; None if it goes away from there."""
        if self.speed[1] * (line - self.at[1]) <= 0:
            return None
        steps = (line - self.at[1]) / self.speed[1]
        return folded(self.at[0] + self.speed[0] * steps, *self.walls)


class Breakout:
    """Waits with the paddle where the ball will come down; fires where there is none."""

    PADDLE, PADDLE_LINE, CENTRE, REACH = 72, 177.0, 9, 6

    def __init__(self) -> None:
        self.ball = Ball(across=99, along=101, walls=(57, 199))

    def act(self, memory: Memory) -> str:
        """RIGHT, LEFT, NOOP or FIRE."""
        if not self.ball.look(memory):
            return "FIRE"
        target = self.ball.crossing(self.PADDLE_LINE)
        off = (
            (self.ball.at[0] if target is None else target) - int(memory[self.PADDLE]) - self.CENTRE
        )
        return "NOOP" if abs(off) <= self.REACH else "RIGHT" if off > 0 else "LEFT"


class Pong:
    """Waits with the bat where the ball will come."""

    BAT, BAT_LINE, REACH = 51, 188.0, 4

    def __init__(self) -> None:
        self.ball = Ball(across=54, along=49, walls=(44, 204))

    def act(self, memory: Memory) -> str:
        """RIGHT (up), LEFT (down) or NOOP."""
        if not self.ball.look(memory):
            return "NOOP"
        target = self.ball.crossing(self.BAT_LINE)
        off = (self.ball.at[0] if target is None else target) - int(memory[self.BAT])
        return "NOOP" if abs(off) <= self.REACH else "LEFT" if off > 0 else "RIGHT"


class Freeway:
    """Goes up: a car throws the chicken back a little, waiting costs more."""

    def act(self, memory: Memory) -> str:
        """UP."""
        return "UP"


EXPERTS: dict[str, Callable[[], Expert]] = {"breakout": Breakout, "pong": Pong, "freeway": Freeway}
"""ALE's name of a game → its expert, for one episode."""
