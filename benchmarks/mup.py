"""One learning rate for all widths: the best rate by width, with and without muP.

    python benchmarks/mup.py [--shards DIR] [--frames N] [--processes 2] [--figure mup.png]

Small policies of the paper's kind (LSTM core) train on the same frames at each rate; layers between
vectors are as wide as ``--widths`` say. The loss is the mean over the last quarter of the frames.
Without --shards, the scripted demonstrator plays 24 games first. About 8 minutes of CPU time. The
last line is one JSON object: ``losses`` by parametrisation, width and rate, ``best`` rates, and
``moved_mup`` and ``moved_standard``: how many steps of the grid the best rates differ by.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning
import matplotlib as mpl
import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from agent_scaling.data.conversion.shard import shard
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from agent_scaling.policies.sizes import make_policy
from agent_scaling.runtime.allocator import keep_memory
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from data_modules.shards import ShardsDataModule

LANES, STEPS = 4, 8
RATES = [2.0**-power for power in (14, 12, 10, 8, 6)]
SMALL = {
    "embedding": 4,
    "message_width": 8,
    "fc_layers": 1,
    "colors": False,
    "crop": False,
    "channel_scale": 0.25,
    "residual_blocks": 1,
    "residual_layers": 1,
}
"""What stays: convolutions that cost little."""
NAMES = {False: "standard", True: "muP"}

Losses = dict[bool, dict[int, list[float]]]


class Tail(Callback):
    """Mean training loss over the last quarter of the steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        if trainer.global_step > self.steps - self.steps // 4:
            self.losses.append(float(outputs["loss"]))


def widths(width: int) -> dict[str, dict[str, Any]]:
    """Arguments of encoder and core: every layer between vectors is as wide as ``width`` says."""
    encoder = {"width": width, "status_width": width, "map_width": width}
    return {"encoder": encoder, "core": {"width": width}}


def final_loss(shards: Path, width: int, base: int, rate: float, mup: bool, steps: int) -> float:
    """Train one policy; nats per action over the last quarter."""
    parts = widths(width)
    lightning.seed_everything(0, verbose=False)
    policy = make_policy(
        encoder={
            "_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder",
            **SMALL,
            **parts["encoder"],
        },
        core={
            "_target_": "agent_scaling.policies.cores.lstm.LSTMCore",
            "_partial_": True,
            **parts["core"],
        },
    )
    optimizer = OptimizerFactory(torch.optim.Adam, rate, mup=mup, base=widths(base))
    optimizer.initialise(policy)
    tail = Tail(steps)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        gradient_clip_val=4.0,
        callbacks=[tail],
        use_distributed_sampler=False,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = ShardsDataModule(str(shards), lanes=LANES, unroll_length=STEPS)
    trainer.fit(BehaviouralCloning(policy, optimizer), data)
    return sum(tail.losses) / len(tail.losses)


def moved(losses: dict[int, list[float]]) -> int:
    """Steps of the grid between the lowest and the highest of the widths' best rates."""
    best = [row.index(min(row)) for row in losses.values()]
    return max(best) - min(best)


def draw(losses: Losses, path: Path) -> None:
    """Loss over learning rate, a line per width, without muP and with it."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    colors = ["#0072B2", "#009E73", "#D55E00"]  # of the Okabe–Ito palette
    for axis, mup in zip(axes, (False, True), strict=True):
        for (width, row), color in zip(losses[mup].items(), colors, strict=False):
            best = row.index(min(row))
            axis.plot(RATES, row, "o-", color=color, label=f"width {width}", markersize=4)
            axis.plot(RATES[best], row[best], "*", color=color, markersize=15)
        axis.set_xscale("log", base=2)
        axis.set_xlabel("learning rate" + (" (at the base)" if mup else ""))
        axis.set_title(NAMES[mup])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("training loss (nats per action)")
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def demonstrated(folder: Path) -> Path:
    """Shards of the scripted demonstrator's games."""
    demonstrate(games=24, max_steps=2000, output=str(folder / "games"))
    shard(input=str(folder / "games"), output=str(folder / "shards"))
    return folder / "shards"


def quiet() -> None:
    """What each process does before it trains."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    keep_memory()
    torch.set_num_threads(1)  # small policies gain nothing from more


def sweep(shards: Path, options: argparse.Namespace) -> Losses:
    """Every parametrisation, width and rate; at base widths both parametrisations are one."""
    steps, base = options.frames // (LANES * STEPS), options.base
    cells = [(mup, w, r) for mup in NAMES for w in options.widths for r in RATES]
    runs = [cell for cell in cells if not (cell[0] and cell[1] == base)]
    with ProcessPoolExecutor(options.processes, get_context("spawn"), quiet) as pool:
        jobs = [pool.submit(final_loss, shards, w, base, r, mup, steps) for mup, w, r in runs]
        found = dict(zip(runs, (job.result() for job in jobs), strict=True))
    found |= {(True, base, r): found[False, base, r] for r in RATES if base in options.widths}
    return {m: {w: [found[m, w, r] for r in RATES] for w in options.widths} for m in NAMES}


def tables(losses: Losses) -> None:
    """A row per width, a column per rate, the best in bold."""
    for mup, name in NAMES.items():
        table = Table(f"{name}, width", *(f"{rate:.1e}" for rate in RATES))
        for width, row in losses[mup].items():
            cells = [f"[bold]{x:.3f}[/]" if x == min(row) else f"{x:.3f}" for x in row]
            table.add_row(str(width), *cells)
        Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--frames", type=int, default=19_200)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--base", type=int, default=128, help="muP's base width")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--figure", type=Path, default=Path("mup.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        losses = sweep(options.shards or demonstrated(Path(folder)), options)
    tables(losses)
    draw(losses, options.figure)
    best = {
        NAMES[mup]: {width: RATES[row.index(min(row))] for width, row in rows.items()}
        for mup, rows in losses.items()
    }
    found = {
        "losses": {NAMES[mup]: rows for mup, rows in losses.items()},
        "rates": RATES,
        "best": best,
        "moved_standard": moved(losses[False]),
        "moved_mup": moved(losses[True]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
