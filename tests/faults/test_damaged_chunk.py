"""A run that goes on without a damaged chunk: the same weights when resumed, its frames counted."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule
from tests.helpers.runs import train
from tests.training.test_resume import COMPARED, assert_same

LANES, STEPS, UPDATES = 4, 16, 18
SETTINGS = [
    "flops_budget=1e18",
    f"callbacks.tracking.every_frames={LANES * STEPS}",
    f"callbacks.checkpoints.every_frames={4 * LANES * STEPS}",
    "callbacks.reference_players=null",
]


def flip_a_bit(shards: Path) -> None:
    """Damage a chunk that no lane shows in the first five windows."""
    data = ShardsDataModule(str(shards), lanes=LANES, unroll_length=STEPS)
    reader, seen = data.train_reader, []
    for position, lane in itertools.product(range(data.order.positions), range(LANES)):
        span = data.order.span(lane, position, 1)
        chunk = (span.game, span.frame // reader.chunk_frames)
        if chunk not in seen and position > 5 * STEPS:
            break
        seen.append(chunk)
    game, number = chunk
    offset, size, _ = reader.games[game].chunks[number]
    path = shards / reader._shards[game].tar
    tar = bytearray(path.read_bytes())
    tar[offset + size // 2] ^= 1
    path.write_bytes(tar)


def skipped_frames(folder: Path) -> list[dict[int, float]]:
    """What each run has logged, the first run first."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs(["1"], order_by=["attributes.start_time"])
    histories = [client.get_metric_history(r.info.run_id, "train/skipped_frames") for r in runs]
    return [{point.step: point.value for point in points} for points in histories]


def run(shards: Path, output: Path, steps: int, *more: str) -> dict[str, Any]:
    train(shards, output, *SETTINGS, f"trainer.max_steps={steps}", *more)
    return read_checkpoint(output / "checkpoints" / "last.ckpt")


def test_a_run_goes_on_without_it_to_the_same_bits(tiny_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(tiny_shards, shards)
    flip_a_bit(shards)
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    no_baselines = "callbacks.baselines=null"  # they would read all of it before the first step
    with pytest.raises(InputError, match=r"is damaged: .*on_corrupt=skip"):
        run(shards, stopped, UPDATES, no_baselines, "data.workers=0")
    read_checkpoint(stopped / "checkpoints" / "last.ckpt")  # it had come to a save
    skip = [no_baselines, "data.on_corrupt=skip"]
    resumed = run(shards, stopped, UPDATES, *skip, "data.workers=2", "ckpt_path=last")
    uncut = run(shards, whole, UPDATES, *skip, "data.workers=0")
    for part in COMPARED:
        assert_same(resumed[part], uncut[part], part)
    found, expected = skipped_frames(tmp_path)
    assert found == expected
    assert len(found) == UPDATES
    assert 0 < sum(found.values()) < UPDATES * LANES * STEPS
