"""Runs that version 0.1 wrote half of: they load, play, and go on to the weights that it reached.

``tests/fixtures/version_0_1.tar.xz`` holds four output folders after 6 steps of the optimiser, the
weights after 12, and the shards, all written by version 0.1 with the overrides below (MLflow's run
id, which names a store of that machine, is left out).
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_scaling import load_policy, play_episodes
from agent_scaling.config.call import call_verb
from agent_scaling.config.renamed import with_current_paths
from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.helpers import impala_runs
from tests.helpers.runs import SMALL, composed
from tests.helpers.stores import new_store

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "version_0_1.tar.xz"
NETHACK = [
    *SMALL,
    "policy.encoder.message_width=0",
    "policy.encoder.status_width=8",
    "policy.encoder.map_width=8",
    "policy.encoder.width=8",
    "policy.encoder.embedding=16",
]
ATARI = [
    "experiment=atari_bc",
    "data.lanes=4",
    "data.unroll_length=8",
    "data.val_frames=100",
    "policy.encoder.width=1",
    "callbacks.rollouts=null",
    "callbacks.progress=null",
    "callbacks.model=null",
    "callbacks.reference_players=null",
]
OF_ANOTHER_GAME = ("data.game=", "~data.options")
IMPALA = [
    *(text for text in impala_runs.SMALL if not text.startswith(OF_ANOTHER_GAME)),
    "policy.encoder.width=8",
    "policy.encoder.map_width=8",
]
RUNS = {
    "bc_lstm": ("nethack-shards", NETHACK),
    "bc_transformer": (
        "nethack-shards",
        [*NETHACK, "policy/core=transformer", "policy.core.width=16", "policy.core.layers=1"],
    ),
    "impala": (None, IMPALA),
    "atari": ("atari-shards", ATARI),
}


ROUNDED, STEPPED = 5e-5, 2e-3
"""Largest differences: of weights, and of those whose gradient is nothing but rounding, which Adam
scales to whole steps."""


def without_gradient(weights: Iterable[str]) -> set[str]:
    """Biases that a BatchNorm behind them takes away again, and its running means."""
    means = [name for name in weights if name.endswith(".running_mean")]
    places = [name.removesuffix(".running_mean").rpartition(".") for name in means]
    return {*means, *(f"{stem}.{int(number) - 1}.bias" for stem, _, number in places)}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """``written(name)``: the folder of one of the runs."""

    def unpack(name: str) -> Path:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / name

    return unpack


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_to_the_weights_that_it_would_have_reached(
    name: str, written: Callable[[str], Path]
) -> None:
    folder, (shards, overrides) = written(name), RUNS[name]
    output = folder / "run"
    more = [
        f"output={output}",
        f"logger.tracking_uri={new_store(folder / 'mlflow.db')}",
        f"logger.artifact_location={folder}/artifacts",
        "flops_budget=1e18",
        "trainer.max_steps=12",
        "ckpt_path=last",
    ]
    if shards is not None:
        more.append(f"data.shards={folder.parent / shards}")
    call_verb(composed("train", [*overrides, *more]))
    there = torch.load(folder / "end.pt", weights_only=True)
    here: dict[str, Any] = read_checkpoint(output / "checkpoints" / "last.ckpt")
    assert here["frames"] == there["frames"]
    weights = {k: v for k, v in here["state_dict"].items() if k.startswith("policy.")}
    # Bit for bit on the machine that wrote them; another one's kernels may round otherwise.
    free = without_gradient(weights)
    for name, weight in there["state_dict"].items():
        near = STEPPED if name in free else ROUNDED
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=near)
    assert "agent_scaling.policies." in str(here["policy_config"])


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_loads_and_plays(name: str, written: Callable[[str], Path]) -> None:
    path = written(name) / "run" / "checkpoints" / "last.ckpt"
    assert "agent_scaling.policies." not in str(read_checkpoint(path)["policy_config"])
    policy = load_policy(path)
    assert policy.config["_target_"] == "agent_scaling.policies.policy.Policy"
    table = play_episodes(policy, episodes=2, workers=1, max_episode_steps=20)
    assert len(table) == 2


def test_only_targets_are_translated() -> None:
    old = "agent_scaling.cores.lstm.LSTMCore"
    found = with_current_paths({"a": [{"_target_": old, "b": old}], "_target_": 3, "c": ()})
    new = "agent_scaling.policies.cores.lstm.LSTMCore"
    assert found == {"a": [{"_target_": new, "b": old}], "_target_": 3, "c": ()}
