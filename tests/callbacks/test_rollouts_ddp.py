"""Rollouts on two ranks: each plays its share, all have the table that one rank has."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from agent_scaling.runtime.ranks import own_cores
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from callbacks.flops import FlopBudget
from callbacks.rollouts import Rollouts
from tests.ddp.ranks import be_rank, finish
from tests.helpers.policies import random_batch, small_policy
from tests.helpers.runs import forked
from tests.helpers.servers import free_port


class Watched(Rollouts):
    """Leaves what each rank has where the test finds it."""

    def play(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        super().play(trainer, pl_module)
        rank, rows = trainer.global_rank, len(self.last_table)
        found = {"rows": rows, "summary": self.last_summary, "cores": own_cores()}
        Path(trainer.default_root_dir, f"rank-{rank}.json").write_text(json.dumps(found))


def fit(folder: Path, rank: int, ranks: int, port: int) -> None:
    """One rank of a run that plays at its end; as a process of its own."""
    be_rank(rank, ranks, port)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lightning.seed_everything(3, verbose=False)
    module = BehaviouralCloning(small_policy(), OptimizerFactory(torch.optim.SGD, lr=0.0))
    rollouts = Watched(episodes=3, max_episode_steps=25, seed=2, workers=1)
    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=ranks,
        use_distributed_sampler=False,
        strategy="ddp" if ranks > 1 else "auto",
        default_root_dir=str(folder),
        callbacks=[FlopBudget(None), rollouts],
        limit_val_batches=0,
        log_every_n_steps=1,
        logger=CSVLogger(str(folder), name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([random_batch(2, 3)], batch_size=None))


def run(folder: Path, ranks: int) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    folder.mkdir()
    port = free_port()
    assert finish([forked(fit, folder, n, ranks, port) for n in range(ranks)]) == [0] * ranks
    (table,) = (folder / "rollouts").glob("*.parquet")
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]
    return pd.read_parquet(table), found


def test_two_ranks_have_the_table_of_one(tmp_path: Path) -> None:
    table, (alone,) = run(tmp_path / "one", 1)
    gathered, ranks = run(tmp_path / "two", 2)
    assert len(ranks) == 2
    cores = len(os.sched_getaffinity(0))
    assert [found.pop("cores") for found in (alone, *ranks)] == [cores, *[max(1, cores // 2)] * 2]
    assert table["seed"].tolist() == [2, 3, 4]
    pd.testing.assert_frame_equal(gathered, table)
    assert ranks[0] == ranks[1] == alone
    assert sorted(p.name for p in (tmp_path / "two" / "replays").glob("*/*.html")) == [
        f"{kind}.html" for kind in ("best", "median", "worst")
    ]
