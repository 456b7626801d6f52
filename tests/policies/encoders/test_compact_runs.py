"""The compact policy as the command line trains it: it resumes, plays and leaves as a model."""

from __future__ import annotations

import warnings
from pathlib import Path
from unittest.mock import Mock

import mlflow.pytorch
import pandas as pd
import pytest
import torch
from mlflow.utils import requirements_utils

from agent_scaling.config.call import call_verb
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.policies.checkpoints.export import Step, save_model
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from tests.helpers.runs import STEP_FRAMES, UNCOMPARED, composed, train
from tests.helpers.stores import new_store
from tests.training.test_resume import COMPARED, assert_same

RUN = ["experiment=nethack_bc", "policy.params=20_000", "flops_budget=1e18", *UNCOMPARED]
STEPS = ["trainer.max_steps=6", f"callbacks.checkpoints.every_frames={4 * STEP_FRAMES}"]


@pytest.fixture(scope="module")
def last(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compact") / "run"
    train(tiny_shards, output, *RUN, *STEPS)
    return output / "checkpoints" / "last.ckpt"


def test_it_resumes_bit_exactly(last: Path, tiny_shards: Path, tmp_path: Path) -> None:
    fourth = last.with_name("previous.ckpt")
    assert read_checkpoint(fourth)["frames"] == 4 * STEP_FRAMES
    train(tiny_shards, tmp_path / "run", *RUN, *STEPS, f"ckpt_path={fourth}")
    whole, parts = read_checkpoint(last), read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    for part in COMPARED:
        assert_same(parts[part], whole[part], part)


def test_it_plays(last: Path, tmp_path: Path) -> None:
    rollout(ckpt=str(last), episodes=2, max_episode_steps=40, workers=1, output=str(tmp_path))
    assert len(pd.read_parquet(tmp_path / "episodes.parquet")) == 2


def test_it_leaves_as_a_graph_that_answers_alike(
    last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, read = load_policy(last), Mock(return_value={})
    with monkeypatch.context() as patched:
        patched.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
        patched.setattr("importlib_metadata.packages_distributions", read)
        save_model(policy, tmp_path / "model", {})
    assert not read.called  # the files of all packages, in 0.7 s
    asked = (tmp_path / "model" / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}\n" in asked
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        loaded = mlflow.pytorch.load_model(str(tmp_path / "model"))
        step = Step(policy)
        inputs = step.example()
        inputs[0][:] = torch.randint(0, 256, inputs[0].shape, generator=torch.manual_seed(0))
        torch.testing.assert_close(loaded(*inputs)[0], step(*inputs)[0], rtol=1e-4, atol=1e-5)


def test_it_learns_from_its_own_play(tmp_path: Path) -> None:
    settings = ["policy=compact", "policy.params=20_000", "module=impala", "data=actors"]
    settings += ["data.game=agent_scaling.envs.nethack:NetHack", "data.workers=1", "threads=1"]
    settings += ["data.lanes=2", "data.unroll_length=4", "data.asynchronous=false"]
    settings += ["data.groups=1", "+data.options.max_episode_steps=20", "trainer.max_steps=2"]
    settings += ["flops_budget=1e18", "callbacks.rollouts=null", "callbacks.reference_players=null"]
    settings.append(f"logger.tracking_uri={new_store(tmp_path / 'mlflow.db')}")
    settings.append(f"logger.artifact_location={tmp_path}/artifacts")
    call_verb(composed("train", [*settings, f"output={tmp_path / 'run'}"]))
    saved = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert saved["frames"] == 2 * 2 * 4
    fresh = load_policy(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert fresh.num_params == pytest.approx(20_000, rel=0.05)
