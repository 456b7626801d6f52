"""No step of training waits for the device: on the meta device, reading a value raises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agent_scaling.config.call import call_verb
from agent_scaling.data import batch
from callbacks import progress
from tests.helpers import impala_runs, on_meta, runs
from tests.helpers.on_meta import ON_META, FinishedError, Sent

BAR = "callbacks.progress={_target_:callbacks.progress.ProgressBar}"
CLONING = [BAR, "flops_budget=1e15", "trainer.gradient_clip_val=1"]
COMPACT = [
    "experiment=nethack_bc",
    "policy.params=1e4",
    "callbacks.model=null",
    "callbacks.rollouts=null",
    "callbacks.ema.decay=0.9",
    "optimizer.weight_decay=0.1",
]
UNROLLS = ["data._target_=tests.helpers.on_meta.Unrolls", BAR, "module.rewards.normalise=true"]


@pytest.fixture(autouse=True)
def asynchronous(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device takes the host's memory as a GPU does; the bar reads no loss meanwhile."""
    monkeypatch.setattr(batch, "PINNED", ("cuda", "meta"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", on_meta.pinned)
    monkeypatch.setattr(progress, "LOSS_SECONDS", float("inf"))


def steps(settings: list[str]) -> list[str]:
    """Train some steps on the meta device; where the host has sent something else than batches."""
    with Sent() as sent, pytest.raises(FinishedError):
        call_verb(runs.composed("train", [*settings, *ON_META]))
    return sent.places


CORES = ["lstm", "transformer", "mamba", "mamba1", "none"]


@pytest.mark.parametrize("core", CORES)
def test_cloning_never_waits(core: str, tiny_shards: Path, tmp_path: Path) -> None:
    given = runs.overrides(tiny_shards, tmp_path / "run", *CLONING, f"policy/core={core}")
    assert steps(given) == []


@pytest.mark.parametrize("more", [["experiment=nethack_inverse"], COMPACT], ids=["inverse", "ours"])
def test_other_recipes_never_wait(more: list[str], tiny_shards: Path, tmp_path: Path) -> None:
    assert steps(runs.overrides(tiny_shards, tmp_path / "run", *CLONING, *more)) == []


def test_the_learner_never_waits(tmp_path: Path) -> None:
    assert steps(impala_runs.overrides(tmp_path / "run", -1, *UNROLLS)) == []


def test_a_wait_would_be_seen(tiny_shards: Path, tmp_path: Path) -> None:
    bad = "+callbacks.bad={{_target_:tests.helpers.on_meta.{}}}"
    given = runs.overrides(tiny_shards, tmp_path / "run", *CLONING, *ON_META)
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        call_verb(runs.composed("train", [*given, bad.format("Reads")]))
    again = runs.overrides(tiny_shards, tmp_path / "again", *CLONING)
    assert any("in on_train_batch_end" in place for place in steps([*again, bad.format("Sends")]))
