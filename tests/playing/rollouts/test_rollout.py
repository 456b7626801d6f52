import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from agent_scaling.envs.nethack import NetHack
from agent_scaling.envs.nethack.progression import progression
from agent_scaling.envs.versions import installed_versions, versions_text
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import small_policy
from tests.helpers.stores import new_store

SETTINGS = {"episodes": 3, "max_episode_steps": 60, "device": "cpu", "workers": 2}


@pytest.fixture
def checkpoint(tmp_path):
    policy = small_policy()
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    path = tmp_path / "some.ckpt"
    torch.save({"policy_config": policy.config, "state_dict": weights}, path)
    return str(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The URI of an MLflow store."""
    return new_store(tmp_path_factory.mktemp("store") / "mlflow.db")


def test_a_checkpoint_is_played_and_written_down(checkpoint, tmp_path, capsys):
    rollout(ckpt=checkpoint, output=str(tmp_path / "out"), seed=5, ttyrecs=True, **SETTINGS)
    table = pd.read_parquet(tmp_path / "out" / "episodes.parquet")
    assert table.columns.tolist() == ["seed", *NetHack.columns, "versions"]
    assert table["versions"].unique().tolist() == [versions_text(installed_versions("nethack"))]
    assert table["seed"].tolist() == [5, 6, 7]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["steps"]["mean"] == table["steps"].mean()
    reached = zip(table["max_depth"], table["level"], strict=True)
    assert table["progression"].tolist() == [progression(*both) for both in reached]
    assert summary["progression"]["mean"] == table["progression"].mean()
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["seed"] == 5
    recorded = sorted(p.name for p in (tmp_path / "out" / "nle_data").glob("*/*.ttyrec3.bz2"))
    assert recorded == [f"nle.{seed}.0.ttyrec3.bz2" for seed in (5, 6, 7)]
    left = [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]
    assert left == []
    assert "3 episodes" in capsys.readouterr().out


def test_a_table_split_by_seeds_is_the_whole_one(checkpoint, tmp_path):
    for name, seed, episodes in (("all", 0, 4), ("head", 0, 2), ("tail", 2, 2)):
        options = SETTINGS | {"seed": seed, "episodes": episodes, "output": str(tmp_path / name)}
        rollout(ckpt=checkpoint, **options)
    whole, head, tail = (
        pd.read_parquet(tmp_path / name / "episodes.parquet") for name in ("all", "head", "tail")
    )
    pd.testing.assert_frame_equal(whole, pd.concat([head, tail], ignore_index=True))


def test_replays_are_written_beside_the_table(tmp_path):
    rollout(ckpt="random", output=str(tmp_path), replay="best", **SETTINGS)
    found = sorted(p.name for p in (tmp_path / "replays").iterdir())
    assert found == ["best.cast", "best.html"]


def test_results_are_copied_to_the_checkpoints_run(checkpoint, store, tmp_path):
    client = MlflowClient(store)
    experiment = client.create_experiment("x", str(tmp_path / "artifacts"))
    run_id = client.create_run(experiment).info.run_id
    saved = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved.parent.mkdir(parents=True)
    Path(checkpoint).rename(saved)
    options = {**SETTINGS, "ckpt": str(saved), "output": str(tmp_path / "final"), "replay": "best"}
    with pytest.raises(InputError, match="mlflow_run_id"):
        rollout(**options, mlflow_run_id="ckpt", tracking_uri=store)
    (tmp_path / "run" / "mlflow_run_id").write_text(run_id)
    rollout(**options, mlflow_run_id="ckpt", tracking_uri=store)
    for folder, names in (
        ("rollouts/final", ["episodes.csv", "episodes.parquet", "settings.json", "summary.json"]),
        ("replays/final", ["best.cast", "best.html"]),
    ):
        found = sorted(Path(file.path).name for file in client.list_artifacts(run_id, folder))
        assert found == names


def test_a_store_or_run_that_is_not_there_is_refused_before_playing(store, tmp_path):
    options = {**SETTINGS, "ckpt": "random", "output": str(tmp_path / "out")}
    nowhere = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(InputError, match="no such file"):
        rollout(**options, mlflow_run_id="feed", tracking_uri=nowhere)
    with pytest.raises(InputError, match="mlflow_run_id=feed: not found"):
        rollout(**options, mlflow_run_id="feed", tracking_uri=store)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"ckpt": "missing.ckpt"},
        {"episodes": 0},
        {"seed": -1},
        {"level_seed": -1},
        {"workers": 0},
        {"sampling": "beam"},
        {"temperature": 0.0},
        {"character": "gandalf"},
        {"device": "abacus"},
        {"replay": "funniest"},
        {"max_episode_steps": 0},
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(change, tmp_path):
    options = {"ckpt": "random", "output": str(tmp_path / "out"), **SETTINGS, **change}
    with pytest.raises(InputError) as error:
        rollout(**options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_torn_checkpoint_is_refused(checkpoint, tmp_path):
    torn = tmp_path / "torn.ckpt"
    whole = (tmp_path / "some.ckpt").read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"torn\.ckpt"):
        rollout(ckpt=str(torn), output=str(tmp_path / "out"), **SETTINGS)


def test_an_output_that_cannot_be_written_is_refused_before_playing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="output="):
        rollout(ckpt="random", output=str(tmp_path / "file" / "out"), **SETTINGS)
