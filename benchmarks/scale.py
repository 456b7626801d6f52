"""What conversion, training and rollouts cost as they grow, and what NLD-AA would cost.

    python benchmarks/scale.py [--games 10 20 51] [--params 30000 …] [--ranks 1 2] …

On the reference games ($AGENT_SCALING_REFERENCE, default ../shared); 7 minutes of CPU time. Rates
are per CPU-second of the whole process tree, but of ranks, which need a quiet machine. The
prices are parameters: dollars for an hour of a CPU core and of a GPU. The last line is one JSON
object: every measured rate, and the projection's core-hours, GPU-hours and dollars.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra import compose, initialize_config_module
from rich.console import Console
from rich.table import Table

from agent_scaling.data.conversion.shard import shard
from agent_scaling.playing.play import play
from agent_scaling.runtime.allocator import keep_memory
from agent_scaling.training.build import build, quiet

NLD_AA_FRAMES = 3e9  # of 109,545 games
CONVERTED = (10, 20, 51)  # games, by the order of their folders
SIZES = (30_000, 300_000, 1_000_000, 3_000_000)  # parameters
STEPS, WARM_UP = 30, 3  # of training
RANKS = (1, 2)  # of one machine, the same lanes shared out
RANK_SIZE = 1_000_000  # parameters
RANK_FRAMES = (2_560, 28_160)  # trained, twice: the difference has no start in it
PLAYED, CAP = 8, 300  # episodes, and steps of each
BUDGETS = (1e16, 1e18, 1e20)  # training FLOPs to project
EVALUATION = 1000 * 20_000  # steps of the paper's protocol, at a typical length of a game
PEAK = 989e12  # bf16 FLOP/s of an H100


class Stopwatch(lightning.Callback):
    """CPU time and frames of the steps after the warm-up."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            self.begin, self.before = time.process_time(), pl_module.frames
        self.seconds = time.process_time() - getattr(self, "begin", 0.0)
        self.frames = pl_module.frames - getattr(self, "before", 0)


def spent() -> float:
    """CPU seconds so far, of this process and of its children that have ended."""
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def convert(games: list[Path], folder: Path) -> dict[str, float]:
    """Frames per CPU-second and bytes per frame of a conversion."""
    root, began = folder / "games", spent()
    (root / "nle_data").mkdir(parents=True)
    for game in games:
        (root / "nle_data" / game.name).symlink_to(game)
    with contextlib.redirect_stderr(io.StringIO()):
        made = shard(input=str(root), output=str(folder / "shards"), processes=1)
    assert made is not None
    seconds = spent() - began
    frames = sum(total.frames for total in made.totals.values())
    size = sum(total.bytes for total in made.totals.values())
    return {"games": len(games), "frames": frames, "rate": frames / seconds, "bytes": size / frames}


def steps(params: int, shards: Path) -> dict[str, float]:
    """FLOPs per CPU-second of training, ``model`` convention."""
    with initialize_config_module("conf", version_base=None):
        made = [f"policy.params={params}", f"data.shards={shards}", "flops_budget=1e18"]
        cfg = compose("train", ["experiment=nethack_bc", *made])
    module, data = build(cfg)
    watch = Stopwatch()
    options = {
        key: value for key, value in cfg.trainer.items() if key not in ("_target_", "compile")
    }
    trainer = lightning.Trainer(**options | {"max_steps": WARM_UP + STEPS}, callbacks=[watch])
    trainer.fit(module, data)
    rate = watch.frames / watch.seconds
    return {
        "params": module.policy.num_params,
        "rate": rate,
        "flops": rate * module.flops_per_frame,
    }


def ranks(count: int, shards: Path) -> dict[str, float]:
    """Frames per second of wall time, of ``count`` ranks of DDP with a free core each.

    Lightning does not wait for the ranks that it starts: their CPU time is not known.
    """
    points = []
    without = ["rollouts", "reference_players", "baselines", "held_out"]
    options = [f"callbacks.{name}=null" for name in without]
    options += ["trainer=ddp", f"trainer.devices={count}", f"data.shards={shards}"]
    for frames in RANK_FRAMES:
        with tempfile.TemporaryDirectory() as folder:
            where = [f"output={folder}", f"logger.tracking_uri=sqlite:///{folder}/mlflow.db"]
            budget = [f"flops_budget={6 * RANK_SIZE * frames}", "callbacks.flops.convention=6nd"]
            policy = ["experiment=nethack_bc", f"policy.params={RANK_SIZE}"]
            command = [str(Path(sys.executable).with_name("agent-scaling")), "train"]
            began = time.monotonic()
            command += [*policy, *options, *where, *budget]
            subprocess.run(command, check=True, capture_output=True)
            points.append(time.monotonic() - began)
    rate = (RANK_FRAMES[1] - RANK_FRAMES[0]) / (points[1] - points[0])
    return {"ranks": count, "per_second": rate, "rate": rate / count}


def rollouts(shards: Path) -> float:
    """Steps per CPU-second of the 1M policy, untrained."""
    with initialize_config_module("conf", version_base=None):
        made = ["policy.params=1_000_000", f"data.shards={shards}", "flops_budget=1e18"]
        cfg = compose("train", made)
    module, _ = build(cfg)
    began = spent()
    table = play(module.policy, range(PLAYED), max_episode_steps=CAP, workers=1, lanes=PLAYED)
    return float(table["steps"].sum()) / (spent() - began)


def project(rates: dict[str, Any], prices: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Hours and dollars of NLD-AA's conversion, of training and of an evaluation."""
    jobs = {
        "convert NLD-AA": (NLD_AA_FRAMES / rates["convert"][-1]["rate"], prices.core_hour),
        "play 1,000 games": (EVALUATION / rates["rollouts"], prices.core_hour),
    }
    for budget in BUDGETS:
        jobs[f"train, {budget:g} FLOPs"] = (budget / PEAK / prices.utilisation, prices.gpu_hour)
    return {
        name: {"hours": seconds / 3600, "dollars": seconds / 3600 * price}
        for name, (seconds, price) in jobs.items()
    }


def show(rates: dict[str, Any], projection: dict[str, dict[str, float]]) -> None:
    """The tables."""
    tables = [
        Table("games", "frames", "frames/s per core", "bytes/frame", title="conversion"),
        Table("parameters", "frames/s per core", "FLOP/s per core", title="training"),
        Table("ranks", "frames/s", "frames/s per rank", title="ranks, wall time"),
        Table("job", "core- or GPU-hours", "dollars", title="projection"),
    ]
    for row in rates["convert"]:
        values = (row["games"], f"{row['frames']:,}", f"{row['rate']:,.0f}", f"{row['bytes']:.1f}")
        tables[0].add_row(*map(str, values))
    for row in rates["training"]:
        tables[1].add_row(f"{row['params']:,}", f"{row['rate']:,.0f}", f"{row['flops']:.3g}")
    for row in rates["ranks"]:
        tables[2].add_row(str(row["ranks"]), f"{row['per_second']:,.0f}", f"{row['rate']:,.0f}")
    for name, row in projection.items():
        tables[3].add_row(name, f"{row['hours']:,.3g}", f"{row['dollars']:,.2f}")
    for table in tables:
        Console().print(table)
    Console().print(f"rollouts: {rates['rollouts']:,.0f} steps/s per core", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--games", type=int, nargs="+", default=CONVERTED, help="to convert")
    parser.add_argument("--params", type=int, nargs="+", default=SIZES, help="to train")
    parser.add_argument("--ranks", type=int, nargs="*", default=RANKS, help="of DDP")
    parser.add_argument("--core-hour", type=float, default=0.04, help="dollars")
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="dollars")
    parser.add_argument("--utilisation", type=float, default=0.3, help="of the GPU's peak")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    quiet()
    keep_memory()
    torch.set_num_threads(1)
    reference = Path(os.environ.get("AGENT_SCALING_REFERENCE", "../shared")).resolve()
    games = sorted((reference / "nld-aa-mini" / "train" / "nle_data").iterdir())
    rates: dict[str, Any] = {"convert": [], "training": [], "ranks": []}
    log = Console(stderr=True).log  # each as it comes: a busy machine takes its time
    with tempfile.TemporaryDirectory() as name:
        for count in given.games:
            rates["convert"].append(convert(games[:count], Path(name) / str(count)))
            log(rates["convert"][-1])
        shards = Path(name) / str(given.games[0]) / "shards"
        for params in given.params:
            rates["training"].append(steps(params, shards))
            log(rates["training"][-1])
        for count in given.ranks:
            rates["ranks"].append(ranks(count, shards))
            log(rates["ranks"][-1])
        rates["rollouts"] = rollouts(shards)
    projection = project(rates, given)
    show(rates, projection)
    print(json.dumps(rates | {"projection": projection}))


if __name__ == "__main__":
    main()
