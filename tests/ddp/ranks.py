"""Runs of several ranks for tests: processes that are told of each other as torchrun tells them."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path

from agent_scaling.runtime.errors import InputError
from tests.helpers.runs import forked, train
from tests.helpers.servers import free_port


def be_rank(number: int, count: int, port: int) -> None:
    """Tell this process, which was forked for it, what torchrun tells a rank."""
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    # Lightning reads RANK when it is imported, and this process was forked after that.
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = number


def rank(number: int, count: int, port: int, shards: Path, output: Path, *more: str) -> None:
    """One rank of a run; as a process of its own. What it says, and what is wrong with its input,
    is in ``rank-<number>.txt`` beside the output."""
    faulthandler.enable(sys.__stderr__)  # a crash within gloo says where
    be_rank(number, count, port)
    said = output.parent / f"rank-{number}.txt"
    with said.open("w") as file, redirect_stdout(file):
        try:
            train(shards, output, *more)
        except InputError as error:
            print(error)
            raise


def start(
    count: int,
    shards: Path,
    output: Path | Sequence[Path],
    *more: str,
    trainer: str = "ddp",
) -> list[BaseProcess]:
    """Start the ranks of a run; ``output`` is the run's, or each rank's; ``more`` are overrides."""
    outputs = [output] * count if isinstance(output, Path) else output
    port = free_port()
    settings = (f"trainer={trainer}", "trainer.accelerator=cpu", f"trainer.devices={count}", *more)
    return [
        forked(rank, number, count, port, shards, own, *settings)
        for number, own in enumerate(outputs)
    ]


def finish(processes: Sequence[BaseProcess], seconds: float = 600) -> list[int | None]:
    """Wait for all, end those that are late, and return their exit statuses."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes
