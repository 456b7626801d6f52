"""No odd value in a checkpoint is taken: one line, before a run has started or written anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.build import build
from agent_scaling.training.course.resume import check_fits
from tests.helpers.runs import composed, overrides, train

SETTINGS = ["flops_budget=1e18", "callbacks.baselines=null"]


@pytest.fixture(scope="module")
def checkpoint(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("odd") / "run"
    train(tiny_shards, output, *SETTINGS, "trainer.max_steps=1")
    return output / "checkpoints" / "last.ckpt"


NAN = float("nan")
ODD: list[object] = ["text", ["text"], NAN, torch.full((2, 3), NAN), [], {}]
"""Values that no part of a checkpoint has."""
UNREAD = {"pytorch-lightning_version", "lr_schedulers", "policy_config", "game", "held_out"}
"""Parts that are checked elsewhere, or that a resume does not read."""
EARLIER: tuple[str, object] = ("schedule", {})
"""A checkpoint of an earlier version may lack fields of its schedule."""


@pytest.fixture(scope="module")
def resumed(checkpoint: Path, tiny_shards: Path) -> Callable[[dict[str, Any]], None]:
    """Does what a resume does before it starts anything."""
    cfg = composed("train", overrides(tiny_shards, checkpoint.parents[1], *SETTINGS))
    module, data = build(cfg)
    callbacks = [instantiate(part) for part in cfg.callbacks.values() if part]
    path = checkpoint.with_name("odd.ckpt")

    def take(saved: dict[str, Any]) -> None:
        torch.save(saved, path)
        check_fits(module, data, callbacks, path)

    return take


def test_no_odd_value_in_a_checkpoint_is_taken(
    checkpoint: Path, resumed: Callable[[dict[str, Any]], None]
) -> None:
    """Each is one line before anything of the run is started, written or recorded."""
    good = read_checkpoint(checkpoint)
    resumed(good)
    said = {
        (key, number): refusal(resumed, good | {key: odd})
        for key in sorted(good.keys() - UNREAD)
        for number, odd in enumerate(ODD)
        if (key, odd) != EARLIER
    }
    lines = [line for line in said.values() if "checkpoint" in line and "\n" not in line]
    assert len(lines) == len(said), {place: line for place, line in said.items() if not line}


def refusal(take: Callable[[dict[str, Any]], None], saved: dict[str, Any]) -> str:
    """The error of taking that checkpoint, or nothing."""
    try:
        take(saved)
    except InputError as error:
        return str(error)
    return ""


DEEP: list[tuple[tuple[Any, ...], object]] = [
    (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(7, 5, 3)),
    (("optimizer_states", 0, "state", 0, "exp_avg"), "text"),
    (("optimizer_states", 0, "state", 0, "step"), torch.tensor(NAN)),
    (("optimizer_states", 0, "state", 0), ["text"]),
    (("optimizer_states", 0, "state", 999), {}),
    (("optimizer_states", 0, "param_groups", 0, "betas"), (NAN, 0.9)),
    (("lane_state",), ["text"]),
    (("lane_state", 0), torch.zeros(1, 1, 1)),
    (("rng", 0), "text"),
    (("rng", 0), {}),
    (("loops", "fit_loop"), "text"),
    (("loops", "fit_loop"), None),
    (("callbacks", "Tracking"), "text"),
    (("callbacks", "Tracking", "cpu_seconds"), NAN),
    (("callbacks", "Checkpoints", "best_nats"), NAN),
    (("callbacks", "EMA", "latest_update_step"), NAN),
    (("ShardsDataModule", "step"), "text"),
    (("ShardsDataModule", "step"), -1),
]


@pytest.mark.parametrize(("place", "odd"), DEEP, ids=range(len(DEEP)))
def test_no_odd_value_within_a_part_is_taken(
    checkpoint: Path,
    resumed: Callable[[dict[str, Any]], None],
    place: tuple[Any, ...],
    odd: object,
) -> None:
    saved = part = read_checkpoint(checkpoint)
    for key in place[:-1]:
        if isinstance(part[key], tuple):
            part[key] = list(part[key])
        part = part[key]
    part[place[-1]] = odd
    with pytest.raises(InputError, match=r"odd\.ckpt") as caught:
        resumed(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [NAN, "text"])
def test_weights_that_are_no_numbers_are_never_played(
    checkpoint: Path, tmp_path: Path, weight: Any
) -> None:
    saved = read_checkpoint(checkpoint)
    name, good = next(iter(saved["state_dict"].items()))
    saved["state_dict"][name] = weight if weight == "text" else torch.full_like(good, weight)
    torch.save(saved, tmp_path / "odd.ckpt")
    with pytest.raises(InputError, match=r"odd\.ckpt: .*") as caught:
        load_policy(tmp_path / "odd.ckpt")
    assert name.removeprefix("policy.") in str(caught.value)
