"""Windows of 4,096 frames against short ones: the same policy, at equal FLOPs, judged alike.

    python benchmarks/long_windows.py --shards DIR --output DIR [--flops 5e10] [--params 30_000]
        [--core lstm] [--seeds 1 2] [--windows 4096x1 64x64 16x16]

Each run is ``agent-scaling train experiment=nethack_bc`` with windows of so many frames by so many
lanes. Its last policy is then judged on the same held-out frames in windows of 4,096, each frame
with at least 2,048 frames of its game before it (fewer where the game has fewer). A run that is
finished in ``--output`` is not trained again. CPU seconds and the largest memory are the training
process's, its evaluation at the end included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent_scaling import load_policy
from agent_scaling.evaluation.held_out import evaluate
from agent_scaling.runtime.files import write_json
from data_modules.shards import ShardsDataModule

LENGTH, BEFORE = 4096, 2048
JUDGED = [f"data.val_before={BEFORE}", "policy.recompute=256"]
QUIET = ["callbacks.rollouts=null", "callbacks.reference_players=null", "callbacks.progress=null"]
LANES, FRAMES = 4, 65_536
"""Of the frames that all policies are judged on."""


def train(window: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one run, unless it is there; return its costs."""
    steps, lanes = (int(part) for part in window.split("x"))
    folder = options.output / f"{window}-{seed}"
    if (folder / "costs.json").exists():
        costs: dict[str, Any] = json.loads((folder / "costs.json").read_text())
        return costs
    command = [
        str(Path(sys.executable).with_name("agent-scaling")), "train", "experiment=nethack_bc",
        f"data.shards={options.shards}", f"flops_budget={options.flops}", f"output={folder}",
        f"policy/core={options.core}", f"policy.params={options.params}", f"seed={seed}",
        f"data.seed={seed}", f"data.lanes={lanes}", f"data.unroll_length={steps}",
        f"data.val_lanes={LANES}", "data.val_frames=8192", *QUIET,
        *(JUDGED if steps == LENGTH else []),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {run.returncode}")
    costs = {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1e3}
    write_json(folder / "costs.json", costs)
    return costs


def judged(folder: Path, shards: Path) -> dict[str, float]:
    """Judge a run's last policy on the frames that all are judged on."""
    data = ShardsDataModule(
        str(shards), lanes=1, unroll_length=LENGTH, val_lanes=LANES, val_frames=FRAMES,
        val_before=BEFORE,
    )  # fmt: skip
    data.setup("fit")
    policy = load_policy(folder / "checkpoints" / "last.ckpt")
    policy.recompute = 256
    try:
        return evaluate(policy, data.val_dataloader(), data.val_games)
    finally:
        data.teardown("fit")


def main() -> None:
    """Train, judge and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--flops", default="5e10")
    parser.add_argument("--params", default="30_000")
    parser.add_argument("--core", default="lstm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--windows", nargs="+", default=[f"{LENGTH}x1", "64x64", "16x16"])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = Table("frames x lanes", "seed", "nats", "standard error", "CPU s", "peak MB")
    for seed in options.seeds:
        for window in options.windows:
            costs = train(window, seed, options)
            found = judged(options.output / f"{window}-{seed}", options.shards)
            numbers = (found["nats"], found["nats_se"])
            table.add_row(
                window, str(seed), *(f"{number:.4f}" for number in numbers),
                f"{costs['cpu_seconds']:.0f}", f"{costs['peak_mb']:.0f}",
            )  # fmt: skip
            Console(stderr=True).print(f"{window} seed {seed}: {numbers[0]:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
