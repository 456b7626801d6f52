"""A rank that dies; in a file of its own, which is quickly imported by every rank."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer


class Killed(Callback):
    """Kills its own process ``steps`` steps after it began, where it is the rank that the attempt
    of torchrun (0: the first) is to lose.

    Args:
        ranks: The rank of each attempt.
        steps: Steps of the optimiser.
    """

    def __init__(self, ranks: Sequence[int], steps: int) -> None:
        self.ranks, self.left = ranks, steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, n: int
    ) -> None:
        self.left -= 1
        attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        if not self.left and trainer.global_rank == self.ranks[attempt]:
            os.kill(os.getpid(), signal.SIGKILL)
