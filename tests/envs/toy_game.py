"""A game for tests of the pool: it counts, and misbehaves where its options say so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt


class Toy:
    """Shows (seed, step, sum of actions); an episode lasts ``3 + seed % 5`` steps."""

    observations: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {"shown": ((3,), "int64")}
    num_actions: ClassVar[int] = 10

    def __init__(
        self, views: Mapping[str, npt.NDArray[Any]], *, trouble: dict[str, int], once: str = ""
    ) -> None:
        self.shown = views.get("shown", np.zeros(3, np.int64))
        self.trouble, self.once = trouble, once

    def reset(self, seed: int) -> None:
        self.shown[:] = seed, 0, 0

    def step(self, action: int) -> dict[str, Any] | None:
        self.shown[1] += 1
        self.shown[2] += action
        seed, step, total = self.shown.tolist()
        if step == 2:
            self._misbehave(seed)
        return {"steps": step, "total": total} if step == 3 + seed % 5 else None

    def close(self) -> None:
        pass

    def _misbehave(self, seed: int) -> None:
        if self.once and Path(self.once).exists():
            return
        for what, where in self.trouble.items():
            if where != seed:
                continue
            if self.once:
                Path(self.once).touch()
            if what == "raise":
                raise ValueError("the toy broke")
            if what == "hang":
                time.sleep(1000)
            if what == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "crash": signal.SIGSEGV}[what])
