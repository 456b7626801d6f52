"""A game for tests of learning: walk to the right; one step on is paid, the end is worth more."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

LENGTH, CAP = 3, 8


class Corridor:
    """Shows the player as @ on a line, NetHack's size; 0 walks left, 1 right, all else waits."""

    observations: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        "chars": ((24, 80), "uint8"),
        "colors": ((24, 80), "int8"),
        "cursor": ((2,), "uint8"),
        "reward": ((1,), "float32"),
    }
    num_actions: ClassVar[int] = 121

    def __init__(
        self,
        views: Mapping[str, npt.NDArray[Any]],
        *,
        dies_at: int = -1,
        once: str = "",
        breaks_at: int = -1,
        cap: int = CAP,
    ) -> None:
        self.cap = cap
        self.views, self.dies_at, self.once, self.breaks_at = views, dies_at, once, breaks_at
        self.moves = 0

    def reset(self, seed: int) -> None:
        self.seed, self.steps, self.at, self.total = seed, 0, 0, 0.0
        self.views["reward"][...] = 0
        self.show()

    def show(self) -> None:
        self.views["chars"][...] = ord(".")
        self.views["chars"][10, 40 + 3 * self.at] = ord("@")
        self.views["colors"][...] = 7
        self.views["cursor"][:] = 10, 40 + 3 * self.at

    def step(self, action: int) -> dict[str, Any] | None:
        self.moves += 1
        if self.moves == self.dies_at and not Path(self.once).exists():
            Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.moves == self.breaks_at:
            raise ValueError("the corridor broke")
        before, self.steps = self.at, self.steps + 1
        self.at = max(0, self.at + {0: -1, 1: 1}.get(action, 0))
        reward = float(self.at - before) + (5.0 if self.at == LENGTH else 0.0)
        self.total += reward
        self.views["reward"][...] = reward
        self.show()
        if self.at == LENGTH or self.steps == self.cap:
            end = "goal" if self.at == LENGTH else "cap"
            return {"return": self.total, "steps": self.steps, "end": end}
        return None

    def close(self) -> None:
        pass
