"""What a training window of thousands of frames costs: memory and time per frame of one lane.

python benchmarks/context.py                    # all rows, each in a process of its own
python benchmarks/context.py lstm 4096 256      # one: core, frames, policy.recompute
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from agent_scaling.data.batch import Batch, blank_batch
from agent_scaling.policies.compose import make_policy
from agent_scaling.runtime.allocator import keep_memory

CONTEXT = 4096
SHORT = 512  # frames of the window before, which takes what does not grow with the window
CORES = ("lstm", "mamba1", "mamba", "transformer")
ROWS = [
    (core, steps, piece)
    for core in CORES
    for steps, piece in ((4096, "null"), (4096, "256"), (16384, "256"))
]


def window(steps: int) -> Batch:
    """One lane of blank frames of one game."""
    batch = blank_batch(steps, 1)
    batch.openings = ()
    return batch


def measure(core: str, steps: int, piece: str) -> str:
    """Train on one window; return a row: the process's peak, what of it the frames of the window
    took beyond a short window's, and the time."""
    more = [f"policy.core.context={CONTEXT}"] if core == "transformer" else []
    policy = make_policy(
        "policy=compact", "policy.params=1e5", f"policy/core={core}", "policy.core.layers=2",
        f"policy.recompute={piece}", *more,
    )  # fmt: skip
    optimizer = torch.optim.Adam(policy.parameters())

    def train(batch: Batch) -> None:
        logits, _, _ = policy(batch, policy.initial_state(1))
        loss = F.cross_entropy(logits.flatten(0, 1), torch.zeros(batch.steps, dtype=torch.long))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    train(window(SHORT))
    before, began = peak(), time.process_time()
    train(window(steps))
    seconds = time.process_time() - began
    kilobytes, micros = (peak() - before) / (steps - SHORT), 1e6 * seconds / steps
    return (
        f"{core:12} {steps:6} {piece:>6} {peak() / 1e3:8.0f} MB peak {kilobytes:8.1f} kB/frame "
        f"{micros:8.0f} us/frame"
    )


def peak() -> float:
    """The process's largest memory so far, in kB."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main(arguments: list[str]) -> None:
    """Print one row, or all."""
    torch.set_num_threads(1)
    keep_memory()  # as training does
    if arguments:
        core, steps, piece = arguments
        sys.stdout.write(measure(core, int(steps), piece) + "\n")
        return
    for row in ROWS:
        subprocess.run([sys.executable, __file__, *map(str, row)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
