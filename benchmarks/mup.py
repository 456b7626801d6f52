"""One learning rate for all widths: the best rate by width, with and without muP.

    python benchmarks/mup.py [--policy compact] [--optimizer adam] [--shards DIR] [--frames N]
        [--seeds 0 1 2] [--processes 2] [--multipliers readout=4] [--results mup.json]
        [--figure mup.png]

Small policies with an LSTM, our own or of the paper's kind, train on the same frames at each rate;
layers between vectors are as wide as ``--widths`` say. The loss is the mean over the last quarter
of the frames, then over seeds. Without --shards, the scripted demonstrator plays 24 games first. A
sweep that was stopped goes on from --results, and so does one with more widths, rates or seeds. The
last line is one JSON object: mean ``losses`` by parametrisation, width and rate, ``best`` rates,
``moved_mup`` and ``moved_standard`` (how many steps of the grid the best rates differ by), and
``transfer``: at the widest, the loss with muP at the base's best rate, and the best without muP.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
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
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_json
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.muon import Muon
from agent_scaling.training.optim.muon_factory import MuonFactory
from agent_scaling.training.optim.optimizer import OptimizerFactory
from data_modules.shards import ShardsDataModule

LANES, STEPS = 4, 8
RATES = [2.0**-power for power in (10, 9, 8, 7, 6)]
ENCODERS: dict[str, dict[str, Any]] = {
    "compact": {
        "_target_": "agent_scaling.policies.encoders.compact.CompactEncoder",
        "text_rows": 512,
    },
    "paper": {
        "_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder",
        "embedding": 4,
        "message_width": 8,
        "fc_layers": 1,
        "colors": False,
        "crop": False,
        "channel_scale": 0.25,
        "residual_blocks": 1,
        "residual_layers": 1,
    },
}
"""By policy, what stays: tables and convolutions that cost little."""
NAMES = {False: "standard", True: "muP"}
COLORS = ["#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9"]
"""Of the Okabe–Ito palette."""

Cell = tuple[str, int, float, int]
"""Parametrisation, width, rate, seed."""
Losses = dict[str, dict[int, list[float]]]
"""Mean over seeds, by parametrisation, width and rate."""


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


def widths(policy: str, width: int) -> dict[str, dict[str, Any]]:
    """Arguments of encoder and core: every layer between vectors is as wide as ``width`` says."""
    encoder = {
        "compact": {"width": width, "hidden": 2 * width, "text_width": width // 2},
        "paper": {"width": width, "status_width": width, "map_width": width},
    }
    return {"encoder": encoder[policy], "core": {"width": width}}


def optimizer_of(cell: Cell, options: argparse.Namespace) -> OptimizerFactory:
    """The cell's; Muon's other parameters get half of its rate from Adam, as in our recipe."""
    name, _, rate, _ = cell
    mup: dict[str, Any] = {
        "mup": name == NAMES[True],
        "base": widths(options.policy, options.base),
        "multipliers": options.multipliers,
    }
    if options.optimizer == "muon":
        return MuonFactory(Muon, rate, rate / 2, **mup)
    return OptimizerFactory(torch.optim.Adam, rate, **mup)


def final_loss(shards: Path, cell: Cell, options: argparse.Namespace) -> float:
    """Train one policy; nats per action over the last quarter."""
    _, width, _, seed = cell
    steps = options.frames // (LANES * STEPS)
    parts = widths(options.policy, width)
    lightning.seed_everything(seed, verbose=False)
    policy = make_policy(
        encoder={**ENCODERS[options.policy], **parts["encoder"]},
        core={
            "_target_": "agent_scaling.policies.cores.lstm.LSTMCore",
            "_partial_": True,
            **parts["core"],
        },
        path=options.policy == "compact",
    )
    optimizer = optimizer_of(cell, options)
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
    data = ShardsDataModule(str(shards), lanes=LANES, unroll_length=STEPS, seed=seed)
    trainer.fit(BehaviouralCloning(policy, optimizer), data)
    return sum(tail.losses) / len(tail.losses)


def moved(losses: dict[int, list[float]]) -> int:
    """Steps of the grid between the lowest and the highest of the widths' best rates."""
    best = [row.index(min(row)) for row in losses.values()]
    return max(best) - min(best)


def draw(losses: Losses, rates: list[float], path: Path) -> None:
    """Loss over learning rate, a line per width, without muP and with it."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(losses), figsize=(9, 3.8), sharey=True, layout="constrained")
    colors = dict(zip(losses[NAMES[True]], cycle(COLORS), strict=False))
    for axis, (name, rows) in zip(axes, losses.items(), strict=True):
        for width, row in rows.items():
            color = colors[width]
            best = row.index(min(row))
            axis.plot(rates, row, "o-", color=color, label=f"width {width}", markersize=4)
            axis.plot(rates[best], row[best], "*", color=color, markersize=15)
        axis.set_xscale("log", base=2)
        axis.set_xlabel("learning rate" + (" (at the base)" if name == NAMES[True] else ""))
        axis.set_title(name)
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


class Results:
    """Losses by cell, in a JSON file that a later call goes on from.

    Raises:
        InputError: The file is of a sweep with other settings.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.losses: dict[Cell, float] = {}
        if path is None or not path.exists():
            return
        saved = json.loads(path.read_text())
        if saved["settings"] != settings:
            raise InputError(
                f"{path}: of a sweep with other settings, {saved['settings']}; give those, or "
                "another --results"
            )
        for *cell, loss in saved["runs"]:
            self.losses[tuple(cell)] = loss

    def add(self, cell: Cell, loss: float) -> None:
        """Keep a loss, and write the file."""
        self.losses[cell] = loss
        if self.path is not None:
            runs = [[*key, value] for key, value in sorted(self.losses.items())]
            write_json(self.path, {"settings": self.settings, "runs": runs})


def finished(
    shards: Path, cells: list[Cell], options: argparse.Namespace
) -> Iterator[tuple[Cell, float]]:
    """Train the cells' policies, some at a time; each with its loss as it ends."""
    if options.processes == 1:
        quiet()
        yield from ((cell, final_loss(shards, cell, options)) for cell in cells)
        return
    pool = ProcessPoolExecutor(options.processes, get_context("spawn"), quiet)
    try:
        jobs = {pool.submit(final_loss, shards, cell, options): cell for cell in cells}
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def sweep(shards: Path, options: argparse.Namespace, results: Results) -> Losses:
    """Every parametrisation, width, rate and seed; mean losses over the seeds."""
    widths_of = {NAMES[True]: options.widths, NAMES[False]: options.standard}
    cells: list[Cell] = [
        (name, width, rate, seed)
        for seed in options.seeds
        for name, own in widths_of.items()
        for width in own
        for rate in options.rates
    ]
    missing = [cell for cell in cells if cell not in results.losses]
    for done, (cell, loss) in enumerate(finished(shards, missing, options), 1):
        results.add(cell, loss)
        name, width, rate, seed = cell
        print(
            f"{done}/{len(missing)}: {name}, width {width}, {rate:.1e}, seed {seed}: {loss:.3f}",
            flush=True,
        )
    return {
        name: {
            width: [
                fmean(results.losses[name, width, rate, seed] for seed in options.seeds)
                for rate in options.rates
            ]
            for width in own
        }
        for name, own in widths_of.items()
    }


def tables(losses: Losses, rates: list[float]) -> None:
    """A row per width, a column per rate, the best in bold."""
    for name, rows in losses.items():
        table = Table(f"{name}, width", *(f"{rate:.1e}" for rate in rates))
        for width, row in rows.items():
            cells = [f"[bold]{x:.3f}[/]" if x == min(row) else f"{x:.3f}" for x in row]
            table.add_row(str(width), *cells)
        Console().print(table)


def transfer(losses: Losses, base: int) -> dict[str, float]:
    """Losses of the widest policy: with muP at the base's best rate, and the best without."""
    widest, at_base = max(losses[NAMES[False]]), losses[NAMES[True]][base]
    found = losses[NAMES[True]][widest][at_base.index(min(at_base))]
    return {"width": widest, "muP": found, "standard": min(losses[NAMES[False]][widest])}


def multiplier(text: str) -> tuple[str, float]:
    """``part=factor`` → both."""
    part, _, factor = text.partition("=")
    return part, float(factor)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Those in ``words``, or the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", choices=ENCODERS, default="compact")
    parser.add_argument("--optimizer", choices=["adam", "muon"], default="adam")
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--frames", type=int, default=3_200)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument(
        "--standard", type=int, nargs="+", help="those to train without muP; all if not given"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--base", type=int, default=64, help="muP's base width, one of --widths")
    parser.add_argument("--multipliers", type=multiplier, nargs="*", default=[], metavar="PART=X")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON; finished runs in it are not repeated")
    parser.add_argument("--figure", type=Path, default=Path("mup.png"))
    options = parser.parse_args(words)
    options.multipliers = dict(options.multipliers)
    options.standard = options.standard or options.widths
    if not {options.base, *options.standard} <= set(options.widths):
        parser.error("--base and --standard must be of --widths")
    return options


def main() -> None:
    options = arguments()
    settings = {
        "policy": options.policy,
        "optimizer": options.optimizer,
        "shards": str(options.shards or "demonstrator"),
        "frames": options.frames,
        "base": options.base,
        "multipliers": options.multipliers,
    }
    try:
        results = Results(options.results, settings)
    except InputError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory() as folder:
        losses = sweep(options.shards or demonstrated(Path(folder)), options, results)
    tables(losses, options.rates)
    draw(losses, options.rates, options.figure)
    best = {
        name: {width: options.rates[row.index(min(row))] for width, row in rows.items()}
        for name, rows in losses.items()
    }
    found = {
        "losses": losses,
        "rates": options.rates,
        "best": best,
        "moved_standard": moved(losses[NAMES[False]]),
        "moved_mup": moved(losses[NAMES[True]]),
        "transfer": transfer(losses, options.base),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
