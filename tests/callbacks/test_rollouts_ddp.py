"""Rollouts on two ranks: each plays its share, all have the table that one rank has."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.helpers.servers import free_port

SCRIPT = """
import json, sys, warnings
import lightning, torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.runtime.ranks import own_cores
from callbacks.flops import FlopBudget
from callbacks.rollouts import Rollouts
from tests.helpers.policies import random_batch, small_policy

warnings.simplefilter("ignore")
folder, devices = sys.argv[1], int(sys.argv[2])


class Watched(Rollouts):
    def play(self, trainer, pl_module):
        super().play(trainer, pl_module)
        rank, rows = trainer.global_rank, len(self.last_table)
        path = f"{folder}/rank-{rank}.json"
        with open(path, "w") as file:
            json.dump({"rows": rows, "summary": self.last_summary, "cores": own_cores()}, file)


lightning.seed_everything(3, verbose=False)
module = BehaviouralCloning(small_policy(), OptimizerFactory(torch.optim.SGD, lr=0.0))
rollouts = Watched(episodes=3, max_episode_steps=25, seed=2, workers=1)
trainer = lightning.Trainer(
    max_steps=1, accelerator="cpu", devices=devices, use_distributed_sampler=False,
    strategy="ddp" if devices > 1 else "auto", default_root_dir=folder,
    callbacks=[FlopBudget(None), rollouts], limit_val_batches=0, log_every_n_steps=1,
    logger=CSVLogger(folder, name="", version=""), enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(module, DataLoader([random_batch(2, 3)], batch_size=None))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def run(script, folder, devices):
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    subprocess.run(
        [sys.executable, script, folder, str(devices)],
        check=True,
        env=environment,
        timeout=600,
        capture_output=True,
    )
    (table,) = (folder / "rollouts").glob("*.parquet")
    ranks = [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]
    return pd.read_parquet(table), ranks


def test_two_ranks_have_the_table_of_one(script, tmp_path):
    table, (alone,) = run(script, tmp_path / "one", 1)
    gathered, ranks = run(script, tmp_path / "two", 2)
    assert len(ranks) == 2
    cores = len(os.sched_getaffinity(0))
    assert [found.pop("cores") for found in (alone, *ranks)] == [cores, *[max(1, cores // 2)] * 2]
    assert table["seed"].tolist() == [2, 3, 4]
    pd.testing.assert_frame_equal(gathered, table)
    assert ranks[0] == ranks[1] == alone
    assert sorted(p.name for p in (tmp_path / "two" / "replays").glob("*/*.html")) == [
        f"{kind}.html" for kind in ("best", "median", "worst")
    ]
