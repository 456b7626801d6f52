"""IMPALA by the command line's path: reproducible, resumable, on the record."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from agent_scaling.envs.pool.processes import GameError
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import build_policy
from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.runtime.errors import InputError
from tests.ddp.ranks import finish
from tests.docs.metrics import documented, unknown
from tests.helpers.impala_runs import LANES, STEPS, history, rank, run
from tests.helpers.runs import forked
from tests.helpers.servers import free_port

FRAMES = LANES * STEPS
EVERY = "callbacks.tracking.every_frames=40"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of six updates that played in turn with learning."""
    output = tmp_path_factory.mktemp("impala") / "run"
    return output, run(output, 6, EVERY, "module.rewards.normalise=true")


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


def test_bit_reproducible_from_its_seed(whole: Any, tmp_path: Path) -> None:
    _, first = whole
    again = run(tmp_path / "again", 6, EVERY, "module.rewards.normalise=true")
    for part in ("state_dict", "optimizer_states", "frames", "worked"):
        assert same(first[part], again[part]), part
    other = run(tmp_path / "other", 1, EVERY, "module.rewards.normalise=true", "seed=1")
    assert not same(first["state_dict"], other["state_dict"])


def test_accounts(whole: Any) -> None:
    output, saved = whole
    # The game is no extension's, so that load_policy() refuses it.
    forward = flops_per_frame(build_policy(saved["policy_config"]), training=False)
    assert saved["frames"] == 6 * FRAMES
    (row,) = json.loads((output / "milestones.json").read_text())
    learning = 3 * 6 * LANES * (STEPS + 1)
    assert row["flops"] == forward * (6 * FRAMES + learning)
    logged = history(output)
    assert logged["flops_acting"][6 * FRAMES] == forward * 6 * FRAMES
    assert logged["flops_learning"][6 * FRAMES] == forward * learning
    for points in logged.values():
        assert set(points) <= set(logged["flops"])
    # Played in turn, every unroll is begun with the newest weights.
    assert set(logged["train/lag"].values()) == {0.0}
    assert set(logged["train/restarted"].values()) == {0.0}
    # And each side waits while the other works.
    for name in ("waiting/learner_for_actors", "waiting/actors_for_learner"):
        assert all(0 < share < 1 for share in logged[name].values()), name


def test_logged_metrics_are_the_documented_ones(whole: Any) -> None:
    output, _ = whole
    patterns = [*documented("Training runs"), *documented("Metrics", "impala.md")]
    assert unknown(history(output), patterns) == []


def test_resume(whole: Any, tmp_path: Path) -> None:
    """Learner, optimiser, reward statistics and counters go on; episodes begin again, counted."""
    _, uncut = whole
    output = tmp_path / "run"
    options = [EVERY, "module.rewards.normalise=true"]
    before = run(output, 4, *options)
    after = run(output, 4, *options, "ckpt_path=last")  # nothing left to do: as it was
    for part in ("state_dict", "optimizer_states", "frames", "worked"):
        assert same(before[part], after[part]), part
    last = run(output, 6, *options, "ckpt_path=last")
    assert last["frames"] == uncut["frames"]
    assert last["worked"] == uncut["worked"]
    assert float(last["state_dict"]["rewards.count"]) == 6 * FRAMES
    restarted = history(output)["train/restarted"]
    assert restarted == dict.fromkeys(restarted, 0.0) | {5 * FRAMES: float(LANES)}


def test_beside_learning(tmp_path: Path) -> None:
    """Unrolls are begun with weights of at most two updates ago, and the games end with the run."""
    output = tmp_path / "run"
    saved = run(output, 8, EVERY, "data.asynchronous=true")
    assert saved["frames"] == 8 * FRAMES
    lags = history(output)["train/lag"]
    assert lags[FRAMES] == 0
    assert max(lags.values()) in (1, 2)


def test_two_ranks_play_games_of_their_own(tmp_path: Path) -> None:
    output = tmp_path / "run"
    ranks = ["trainer.devices=2", "trainer.accelerator=cpu", "+trainer.strategy=ddp"]
    settings, port = [EVERY, *ranks, "module.rewards.normalise=true"], free_port()
    started = [forked(rank, number, 2, port, output, 3, *settings) for number in range(2)]
    assert finish(started) == [0, 0]
    saved = read_checkpoint(output / "checkpoints" / "last.ckpt")
    assert saved["frames"] == 3 * 2 * FRAMES
    assert saved["worked"]["learning"] == 3 * 2 * LANES * (STEPS + 1)
    # One rank's 40 rewards tell nothing of the other's: the statistics are of both.
    assert float(saved["state_dict"]["rewards.count"]) == 3 * 2 * FRAMES


@pytest.mark.usefixtures("new_interpreters")
def test_a_game_that_fails_ends_the_run_and_all_games(tmp_path: Path) -> None:
    broken = ["+data.options.breaks_at=25", "data.asynchronous=true"]
    with pytest.raises(GameError, match="the corridor broke"):
        run(tmp_path / "run", 50, *broken)
    assert "actors" not in [thread.name for thread in threading.enumerate()]
    assert not any("agent_scaling.envs.pool.worker" in " ".join(p.cmdline()) for p in children())


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_sizes_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.groups"):
        run(tmp_path / "run", 1, "data.groups=9")
    with pytest.raises(InputError, match="reward"):
        run(tmp_path / "run", 1, "data.game=tests.envs.toy_game:Toy")


def test_a_policy_for_another_game(tmp_path: Path) -> None:
    task = ["data.game=agent_scaling.envs.tasks:Task", "+data.options.task=NetHackScore-v0"]
    with pytest.raises(InputError, match=r"policy.num_actions=8: the data have 23"):
        run(tmp_path / "run", 1, *task)
