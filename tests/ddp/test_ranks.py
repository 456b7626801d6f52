"""Two ranks are one run: the gradient, the statistics, the data and the record of one rank."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.nn import functional as F

from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.envs.versions import COLUMNS
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy, policy_weights
from agent_scaling.training.build import build
from agent_scaling.training.hooks import milestone_name
from tests.ddp.ranks import finish, start
from tests.helpers.policies import cut
from tests.helpers.runs import STEP_FRAMES, UNCOMPARED, composed, overrides, train

STEPS = 8
SETTINGS = [
    "flops_budget=1e18",  # out of reach
    "callbacks.tracking.every_frames=64",
    "+optimizer.eps=0.01",  # or Adam takes the sign of gradients that are nothing but rounding
]
NO_BATCHNORM = ["policy.encoder.residual_blocks=0", "policy.encoder.crop_norm=false"]
NO_BATCHNORM += ["policy.encoder.blocks=1", "policy.encoder.fc_layers=1"]  # sooner compiled
UNJUDGED = ["callbacks.held_out=null", "callbacks.baselines=null"]
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def built(shards: Path, *more: str) -> tuple[Any, Any]:
    """Module and data as a run begins with them."""
    cfg = composed("train", overrides(shards, shards / "unused", *SETTINGS, *more))
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    return build(cfg)


@pytest.fixture(scope="module")
def half_way(tiny_shards: Path) -> float:
    """FLOPs after half of the steps."""
    module, _ = built(tiny_shards, *NO_BATCHNORM)
    return float(module.flops_per_frame * STEP_FRAMES * STEPS / 2)


@pytest.fixture(scope="module")
def settings(half_way: float) -> list[str]:
    return [*SETTINGS, *NO_BATCHNORM, f"trainer.max_steps={STEPS}", f"milestones=[{half_way}]"]


@pytest.fixture(scope="module")
def one(tiny_shards: Path, settings: list[str], tmp_path_factory: Any) -> Path:
    """The output of a run of one rank."""
    output: Path = tmp_path_factory.mktemp("one") / "run"
    train(tiny_shards, output, *settings)
    return output


@pytest.fixture(scope="module")
def two(tiny_shards: Path, settings: list[str], tmp_path_factory: Any) -> Path:
    """The output of the same run on two ranks."""
    output: Path = tmp_path_factory.mktemp("two") / "run"
    assert finish(start(2, tiny_shards, output, *settings)) == [0, 0]
    return output


def last(output: Path) -> dict[str, Any]:
    return read_checkpoint(output / "checkpoints" / "last.ckpt")


def assert_same_run(output: Path, other: Path) -> None:
    ours, theirs = last(output), last(other)
    assert ours["frames"] == theirs["frames"] == STEPS * STEP_FRAMES
    assert ours["ShardsDataModule"] == theirs["ShardsDataModule"]
    torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], **CLOSE)
    torch.testing.assert_close(ours["lane_state"], theirs["lane_state"], **CLOSE)
    moments = [saved["optimizer_states"][0]["state"] for saved in (ours, theirs)]
    torch.testing.assert_close(*moments, **CLOSE)


def test_two_ranks_make_the_steps_of_one(one: Path, two: Path) -> None:
    assert_same_run(two, one)
    assert len(last(two)["rng"]) == 2
    assert "play it" in (two.parent / "rank-0.txt").read_text()
    assert not (two.parent / "rank-1.txt").read_text()
    tables = [json.loads((output / "milestones.json").read_text()) for output in (one, two)]
    for ours, theirs in zip(*tables, strict=True):
        assert ours.keys() == theirs.keys()
        assert {"val/nats_se", "baseline/bigram_nats"} <= ours.keys()
        assert [ours[name] for name in COLUMNS] == [theirs[name] for name in COLUMNS]
        own = ("checkpoint", "cpu_seconds", *COLUMNS)
        numbers = [{k: v for k, v in row.items() if k not in own} for row in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)


def test_two_ranks_then_one(
    tiny_shards: Path,
    one: Path,
    two: Path,
    settings: list[str],
    half_way: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = two / "checkpoints" / milestone_name(half_way)
    train(tiny_shards, tmp_path / "run", *settings, f"ckpt_path={checkpoint}")
    assert_same_run(tmp_path / "run", one)
    assert "is of 2 ranks, this run has 1: the same lanes go on" in capsys.readouterr().out


def test_one_rank_then_two(
    tiny_shards: Path, one: Path, settings: list[str], half_way: float, tmp_path: Path
) -> None:
    checkpoint = one / "checkpoints" / milestone_name(half_way)
    ranks = start(2, tiny_shards, tmp_path / "run", *settings, f"ckpt_path={checkpoint}")
    assert finish(ranks) == [0, 0]
    assert_same_run(tmp_path / "run", one)


def test_ranks_that_would_not_go_on_from_one_checkpoint_are_refused(
    tiny_shards: Path, two: Path, settings: list[str], half_way: float, tmp_path: Path
) -> None:
    """Each has a folder of its own machine, and rank 1's last save did not come."""
    outputs = [tmp_path / str(rank) / "run" for rank in range(2)]
    for output, name in zip(outputs, ("last.ckpt", milestone_name(half_way)), strict=True):
        (output / "checkpoints").mkdir(parents=True)
        shutil.copy(two / "checkpoints" / name, output / "checkpoints" / "last.ckpt")
    longer = f"trainer.max_steps={2 * STEPS}"
    ranks = start(2, tiny_shards, outputs, *settings, longer, "ckpt_path=last")
    assert finish(ranks) == [1, 1]
    for rank, output in enumerate(outputs):
        said = (output.parent / f"rank-{rank}.txt").read_text()
        assert "(rank 1 at frame 256; rank 0 at frame 512): output= must be a folder" in said


def test_a_sharded_policy_takes_the_same_steps_and_is_saved_whole(
    tiny_shards: Path, one: Path, settings: list[str], half_way: float, tmp_path: Path
) -> None:
    sharded = tmp_path / "sharded"
    assert finish(start(2, tiny_shards, sharded, *settings, trainer="fsdp")) == [0, 0]
    assert_same_run(sharded, one)
    assert not load_policy(sharded / "checkpoints" / "best.ckpt").training
    checkpoint = sharded / "checkpoints" / milestone_name(half_way)
    train(tiny_shards, tmp_path / "run", *settings, f"ckpt_path={checkpoint}")
    assert_same_run(tmp_path / "run", one)


def test_a_sharded_policy_learns_from_copies_in_bfloat16(
    tiny_shards: Path, one: Path, settings: list[str], tmp_path: Path
) -> None:
    asked = [*settings, "milestones=[]", "trainer.precision=bf16-true"]
    assert finish(start(2, tiny_shards, tmp_path / "run", *asked, trainer="fsdp")) == [0, 0]
    module, _ = built(tiny_shards, *NO_BATCHNORM)
    begin = dict(module.policy.named_parameters())
    ours, theirs = (policy_weights(last(output)) for output in (tmp_path / "run", one))
    assert {weight.dtype for weight in ours.values()} == {torch.float32}
    ways = [torch.cat([(saved[k] - begin[k]).flatten() for k in begin]) for saved in (ours, theirs)]
    assert F.cosine_similarity(*ways, dim=0) > 0.95


COMPACT = ["experiment=nethack_bc", "policy.params=20_000", "flops_budget=1e18", *UNCOMPARED]


def assert_same_compact(output: Path, other: Path) -> None:
    ours, theirs = last(output), last(other)
    assert ours["frames"] == theirs["frames"] == STEPS * STEP_FRAMES
    assert ours["ShardsDataModule"] == theirs["ShardsDataModule"]
    for part in ("state_dict", "lane_state"):  # the last actions are of the lanes' state
        torch.testing.assert_close(ours[part], theirs[part], rtol=1e-3, atol=2e-4)


def test_the_compact_policy_with_muon_takes_the_same_steps_on_two_ranks_and_goes_on_on_one(
    tiny_shards: Path, tmp_path: Path
) -> None:
    steps = [f"trainer.max_steps={number}" for number in (STEPS // 2, STEPS)]
    train(tiny_shards, tmp_path / "one" / "run", *COMPACT, steps[1])
    (tmp_path / "two").mkdir()
    assert finish(start(2, tiny_shards, tmp_path / "two" / "run", *COMPACT, steps[0])) == [0, 0]
    train(tiny_shards, tmp_path / "two" / "run", *COMPACT, steps[1], "ckpt_path=last")
    assert_same_compact(tmp_path / "two" / "run", tmp_path / "one" / "run")


def test_the_compact_policy_is_sharded(tiny_shards: Path, tmp_path: Path) -> None:
    more = [*COMPACT, "optimizer=adam", "+optimizer.eps=0.01", f"trainer.max_steps={STEPS}"]
    train(tiny_shards, tmp_path / "one" / "run", *more)
    output = tmp_path / "two" / "run"
    output.parent.mkdir()
    assert finish(start(2, tiny_shards, output, *more, trainer="fsdp")) == [0, 0]
    assert_same_compact(output, tmp_path / "one" / "run")
    assert not load_policy(output / "checkpoints" / "last.ckpt").training


def test_a_compiled_policy_takes_the_same_steps_on_two_ranks(
    tiny_shards: Path, one: Path, settings: list[str], tmp_path: Path
) -> None:
    compiled = [*settings, "milestones=[]", "trainer.compile=aot_eager"]
    assert finish(start(2, tiny_shards, tmp_path / "run", *compiled)) == [0, 0]
    assert_same_run(tmp_path / "run", one)


def test_sigterm_to_one_rank_stops_both(tiny_shards: Path, tmp_path: Path) -> None:
    output, saves = tmp_path / "run", "callbacks.checkpoints.every_frames=256"
    ranks = start(2, tiny_shards, output, *SETTINGS, *UNJUDGED, saves)
    while not (output / "checkpoints" / "last.ckpt").exists():
        assert ranks[0].is_alive()
        time.sleep(0.02)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert finish(ranks) == [143, 143]
    saved = last(output)
    assert saved["frames"] == saved["ShardsDataModule"]["step"] * STEP_FRAMES > 0
    assert saved["lane_state"][0].shape[1] == 4


def test_a_loss_that_is_not_finite_stops_both(tiny_shards: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    ranks = start(2, tiny_shards, output, "flops_budget=1e18", "optimizer.lr=1e30", *UNJUDGED)
    assert finish(ranks) == [1, 1]
    told = json.loads((output / "checkpoints" / "nan_batch.json").read_text())
    assert (told["step"], len(told["lanes"])) == (1, 4)
    assert not (output / "checkpoints" / "last.ckpt").exists()


def test_batchnorm_has_each_ranks_statistics_and_keeps_the_first_ranks(
    tiny_shards: Path, tmp_path: Path
) -> None:
    """Two ranks by hand: halves of the lanes, one after the other."""
    steps = 3
    ranks = start(
        2, tiny_shards, tmp_path / "run", *SETTINGS, *UNJUDGED, f"trainer.max_steps={steps}"
    )
    module, data = built(tiny_shards)
    policy, optimizer = module.policy, module.make_optimizer(module.policy)
    states = [policy.initial_state(2) for _ in range(2)]
    for window in islice(iter(data.train_dataloader()), steps):
        loss = torch.zeros(())
        kept: dict[str, Any] = {}
        for rank, lanes in enumerate((slice(0, 2), slice(2, 4))):
            half = cut(window, slice(None), lanes)
            logits_TBA, _, state = policy(half, states[rank])
            states[rank] = tuple(part.detach() for part in state)
            loss = loss + F.cross_entropy(
                logits_TBA.flatten(0, 1), half.action_TB.flatten(), reduction="sum"
            )
            kept = kept or {name: buffer.clone() for name, buffer in policy.named_buffers()}
        optimizer.zero_grad()
        (loss / (window.action_TB != NO_ACTION).sum()).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 4.0)
        optimizer.step()
        policy.load_state_dict(kept, strict=False)
    assert finish(ranks) == [0, 0]
    trained = last(tmp_path / "run")
    assert any("running_mean" in name for name in policy_weights(trained))
    torch.testing.assert_close(policy_weights(trained), dict(policy.state_dict()), **CLOSE)
    together = tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
    torch.testing.assert_close(trained["lane_state"], together, **CLOSE)
