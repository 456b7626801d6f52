"""A loss that is not finite ends the run, and its batch can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule
from tests.helpers.runs import train

LANES, STEPS = 4, 16


def test_the_run_stops_before_it_saves_and_names_the_batch(
    tiny_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    every_step = f"callbacks.checkpoints.every_frames={LANES * STEPS}"
    settings = ["flops_budget=1e18", "optimizer.lr=1e30", every_step]
    with pytest.raises(InputError, match=r"the loss is not finite at step 1, see .*nan_batch.json"):
        train(tiny_shards, output, "trainer.max_steps=9", *settings)
    last = read_checkpoint(output / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 1
    assert all(value.isfinite().all() for value in last["state_dict"].values())

    told = json.loads((output / "checkpoints" / "nan_batch.json").read_text())
    assert (told["step"], told["loss"], told["seed"]) == (1, "nan", 0)
    data = ShardsDataModule(str(tiny_shards), lanes=LANES, unroll_length=STEPS, seed=told["seed"])
    data.start_step = told["step"]
    batch = next(iter(data.train_dataloader()))
    assert batch.chars_TBHW is not None
    reader = ShardReader(tiny_shards, "train")
    games = {game.key: number for number, game in enumerate(reader.games)}
    for lane, spans in enumerate(told["lanes"]):
        assert sum(span["frames"] for span in spans) == STEPS
        frames = [
            reader.chunk(games[span["game"]], frame // reader.chunk_frames, reader.decoder()).shown[
                "chars"
            ][frame % reader.chunk_frames]
            for span in spans
            for frame in range(span["frame"], span["frame"] + span["frames"])
        ]
        assert torch.equal(batch.chars_TBHW[:, lane], torch.from_numpy(np.stack(frames)))
