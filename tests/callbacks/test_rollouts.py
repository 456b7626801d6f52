import json

import lightning
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger
from mlflow import MlflowClient
from torch.utils.data import DataLoader

from agent_scaling.playing.play import play
from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.logger import BufferedMLFlowLogger
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from callbacks.flops import FlopBudget
from callbacks.rollouts import Rollouts, metrics_of
from tests.helpers.policies import random_batch, small_policy
from tests.helpers.stores import new_store

FRAMES = 2 * 3  # of a step
LIGHTNING = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:You defined a .validation_step.*"
)


def fit(tmp_path, *callbacks, steps=4, logger=None):
    lightning.seed_everything(3, verbose=False)
    module = BehaviouralCloning(small_policy(), OptimizerFactory(torch.optim.SGD, lr=1e-3))
    windows = [random_batch(2, 3, seed=step) for step in range(steps)]
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=str(tmp_path),
        callbacks=list(callbacks),
        limit_val_batches=0,
        log_every_n_steps=1,
        logger=logger or CSVLogger(str(tmp_path), name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(windows, batch_size=None))
    return module, trainer


@LIGHTNING
def test_rollouts_are_played_on_the_way_and_at_the_end(tmp_path):
    rollouts = Rollouts(
        episodes=3, every_frames=2 * FRAMES, max_episode_steps=30, seed=2, workers=1
    )
    module, trainer = fit(tmp_path, FlopBudget(None), rollouts)
    tables = sorted(int(p.stem) for p in (tmp_path / "rollouts").glob("*.parquet"))
    assert tables == [2 * FRAMES, 4 * FRAMES]  # the last also is a milestone: played once
    last = pd.read_parquet(tmp_path / "rollouts" / f"{4 * FRAMES}.parquet")
    pd.testing.assert_frame_equal(last, play(module.policy, range(2, 5), max_episode_steps=30))
    seen = pd.read_csv(tmp_path / "rollouts" / f"{4 * FRAMES}.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(seen, last, check_dtype=False)
    trainer.logger.save()
    logged = pd.read_csv(tmp_path / "metrics.csv")
    rows = logged.dropna(subset="rollout/return_mean").set_index("step")
    assert rows.index.tolist() == tables
    for name, value in metrics_of(rollouts.last_summary).items():
        assert rows.loc[4 * FRAMES, name] == pytest.approx(value)
    assert {"rollout/length_mean", "rollout/turns_mean", "rollout/depth_mean"} <= set(rows)
    assert rollouts.at_milestone()["rollout/length_mean"] == last["steps"].mean()


@LIGHTNING
def test_training_is_the_same_with_and_without_rollouts(tmp_path):
    without, _ = fit(tmp_path / "a", FlopBudget(None))
    rollouts = Rollouts(episodes=2, every_frames=2 * FRAMES, max_episode_steps=20, workers=1)
    with_them, _ = fit(tmp_path / "b", FlopBudget(None), rollouts)
    ours, theirs = with_them.state_dict(), without.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for ours, theirs in zip(with_them.lane_state, without.lane_state, strict=True):
        assert torch.equal(ours, theirs)


@LIGHTNING
def test_replays_of_the_best_the_median_and_the_worst_are_artifacts(tmp_path):
    uri = new_store(tmp_path / "mlflow.db")
    logger = BufferedMLFlowLogger(
        experiment_name="x", tracking_uri=uri, artifact_location=str(tmp_path / "artifacts")
    )
    level = {"max_episode_steps": 20, "level_seed": 7}
    rollouts = Rollouts(episodes=3, game_options=level, workers=1)
    fit(tmp_path, FlopBudget(None), rollouts, steps=1, logger=logger)
    folder = f"replays/{FRAMES}"
    found = [file.path for file in MlflowClient(uri).list_artifacts(logger.run_id, folder)]
    kinds = ("best", "median", "worst")
    assert sorted(found) == [f"{folder}/{kind}.{end}" for kind in kinds for end in ("cast", "html")]
    tables = MlflowClient(uri).list_artifacts(logger.run_id, "rollouts")
    names = [f"rollouts/{FRAMES}.csv", f"rollouts/{FRAMES}.parquet"]
    assert sorted(file.path for file in tables) == names
    logged = tmp_path / "artifacts" / logger.run_id / "artifacts" / folder / "best.cast"
    best = rollouts.last_table.sort_values(["return", "seed"]).iloc[-1]
    assert f"seed {best['seed']} " in json.loads(logged.read_text().splitlines()[0])["title"]


@LIGHTNING
def test_replays_can_be_left_out(tmp_path):
    rollouts = Rollouts(episodes=1, max_episode_steps=20, replays=False, workers=1)
    fit(tmp_path, FlopBudget(None), rollouts, steps=1)
    assert (tmp_path / "rollouts").is_dir()
    assert not (tmp_path / "replays").exists()


def test_the_config_makes_the_callback():
    with initialize_config_module("conf", version_base=None):
        cfg = compose("callbacks/rollouts").callbacks
    assert isinstance(instantiate(cfg.rollouts), Rollouts)


def test_bad_options_are_refused_before_training():
    with pytest.raises(InputError, match="character="):
        Rollouts(character="gandalf")
    with pytest.raises(InputError, match="sampling="):
        Rollouts(sampling="beam")
