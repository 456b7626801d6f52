"""Reports on labels: which keys were written, and a model's accuracy where the keys are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from agent_scaling.data.batch import Batch
from agent_scaling.data.conversion.plan import SPLITS
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import EvalLanes
from agent_scaling.data.windows.overlap import Overlapping
from agent_scaling.evaluation.accuracy import accuracy_rows
from agent_scaling.evaluation.action_tables import fit_tables
from agent_scaling.evaluation.held_out import evaluate
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.files import write_json
from agent_scaling.runtime.progress_bar import FrameBar
from agent_scaling.runtime.terminal import plain_console

REPORT = "labels.json"
TOP = 10
LANES, STEPS = 32, 64


def summed_labels(folder: Path) -> dict[str, Any]:
    """Sum up labelled shards: frames, labels, their mean probability, each key's share."""
    counts_K, sure, frames = np.zeros(256, np.int64), 0, 0
    for split in SPLITS:
        reader = ShardReader(folder, split)
        for game, entry in enumerate(reader.games):
            for number in range(len(entry.chunks)):
                chunk = reader.frames(game, number)
                assert chunk.probability is not None
                frames += len(chunk)
                sure += int(chunk.probability.sum(dtype=np.int64))
                counts_K += np.bincount(chunk.key[chunk.decision == 1], minlength=256)
    labels = int(counts_K.sum())
    shares = {int(key): int(counts_K[key]) / max(labels, 1) for key in np.argsort(-counts_K)}
    return {
        "frames": frames,
        "labels": labels,
        "mean_probability": sure / 255 / max(labels, 1),
        "keys": {str(key): share for key, share in shares.items() if share},
    }


def print_labels(found: Mapping[str, Any], folder: Path) -> None:
    """Print a summary of the labels, and write it to ``labels.json`` in ``folder``."""
    write_json(folder / REPORT, found)
    console = plain_console(soft_wrap=True)
    table = Table("key", "share of labels", title=f"Labels in {folder}", title_justify="left")
    for key, share in list(found["keys"].items())[:TOP]:
        table.add_row(key_name(int(key)), f"{share:.1%}")
    console.print(table)
    console.print(
        f"{found['labels']:,} of {found['frames']:,} frames labelled, "
        f"mean probability {found['mean_probability']:.3f}"
    )


def key_name(key: int) -> str:
    """Return a key as NetHack's players write it: ``j``, ``ESC``, ``^P``, ``M-q``."""
    named = {27: "ESC", 32: "SPACE", 13: "ENTER", 10: "^J", 127: "DEL"}
    if key in named:
        return named[key]
    if key >= 128:
        return f"M-{key_name(key - 128)}"
    return f"^{chr(key + 64)}" if key < 32 else chr(key)


def print_agreement(
    policy: Policy,
    lookahead: int,
    readers: Mapping[str, ShardReader],
    max_frames: int | None,
    device: torch.device,
    folder: Path,
) -> None:
    """Compare a model with the keys of held-out games; print and write ``agreement.json``.

    Args:
        policy: The model.
        lookahead: Frames that the model sees after a window.
        readers: Shards by split; the action frequencies come from the training games.
        max_frames: Frames of each split, evenly spaced; None: all.
        device: Device of the forward passes.
        folder: Folder of ``agreement.json``.
    """
    lanes = {split: one_pass(reader, max_frames) for split, reader in readers.items()}
    games = len(readers["val"].games)
    total = sum((w.end_step or 0) * w.steps * len(w.lanes) for w in lanes.values())  # with padding
    with FrameBar(total, plain_console(stderr=True)) as bar:
        tables = fit_tables(counted(lanes["train"], bar), policy.num_actions)
        windows = Overlapping(counted(lanes["val"], bar), lookahead)
        found = evaluate(policy.to(device), windows, games, device, tables.unigram_A)
    write_json(folder / "agreement.json", found)
    table = Table("held-out accuracy", "and 95 % interval", title_justify="left")
    for row in accuracy_rows(found):
        table.add_row(*row)
    console = plain_console(soft_wrap=True)
    console.print(table)
    error = found["nats_se"]
    spread = "" if math.isnan(error) else f" ± {error:.3f}"
    console.print(
        f"{found['nats']:.3f}{spread} nats per action, {found['frames']:,.0f} frames of "
        f"{games} held-out games"
    )


def counted(windows: Iterable[Batch], bar: FrameBar) -> Iterator[Batch]:
    """Yield the windows; advance the bar once each has been used."""
    for window in windows:
        yield window
        bar.add(window.lanes * window.steps)


def one_pass(reader: ShardReader, max_frames: int | None) -> WindowLoader:
    """Windows over a split's games, each game once."""
    frames = [game.frames for game in reader.games]
    lanes = min(LANES, sum(frames), max_frames or LANES)
    order = EvalLanes(frames, max(lanes, 1), max_frames)
    return WindowLoader(
        reader, order, range(order.lanes), STEPS, end_step=order.steps(STEPS), games=True
    )
