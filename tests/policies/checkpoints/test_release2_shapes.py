"""Checkpoints of many shapes in the second release's format, against a restatement of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling import load_policy
from agent_scaling.data.batch import Batch
from agent_scaling.policies.checkpoints.published import import_checkpoint, import_policy
from tests.helpers.policies import random_batch
from tests.helpers.released_network import (
    Released,
    Weights,
    doubled,
    drawn_flags,
    drawn_weights,
    shapes,
)
from tests.policies.checkpoints.test_published import batch_of
from tests.policies.checkpoints.test_release2 import FIXTURES, norms_by_their_names, steps, window

SEEDS = range(6)
CORES = ("mamba", "llama")


def saved(weights: Weights, flags: dict[str, Any], path: Path, prefix: str = "") -> Path:
    tensors = {f"{prefix}{name}": value for name, value in weights.items()}
    torch.save({"model_state_dict": tensors, "flags": flags}, path)
    return path


def drawn(core: str, seed: int) -> tuple[Weights, dict[str, Any], Batch]:
    """A checkpoint's tensors and flags, and a window for it.

    Where the map's frames are stacked, no game opens inside the window: they are ours there.
    """
    flags = drawn_flags(core, seed)
    stacked = flags["network"]["obs_frame_stack"] > 1
    batch = random_batch(6, 2, seed, 0.0 if stacked else 0.25)
    batch.chars_TBHW[:, :, 22:] = torch.randint(  # type: ignore[index]
        32, 64, (6, 2, 2, 80), generator=torch.Generator().manual_seed(seed)
    )
    return drawn_weights(flags["network"], seed), flags, batch


@pytest.mark.parametrize("kind", CORES)
def test_the_restatement_is_the_release(kind: str, reference: Path) -> None:
    path = reference / "reference" / "release2" / f"{FIXTURES[kind]}.tar"
    loaded = torch.load(path, weights_only=True)
    weights, flags = loaded["model_state_dict"], loaded["flags"]["network"]
    assert {name: tuple(value.shape) for name, value in weights.items()} == shapes(flags)
    with np.load(path.with_name(f"{path.stem}_io.npz")) as io:
        batch = batch_of(io)
        batch.inv_glyphs_TBI = torch.from_numpy(io["inv_glyphs"])
        exact = kind == "mamba"
        expected = torch.from_numpy(io["logits_parallel_f64" if exact else "logits_parallel"])
        reset = torch.from_numpy(io["logits_parallel_reset"])
    made = Released(doubled(weights), flags)
    close = 1e-9 if exact else 1e-3
    assert_close(made.logits(batch, reset=False), expected.double(), atol=close, rtol=0)
    assert_close(made.logits(batch, reset=True), reset.double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("seed", SEEDS)
def test_any_shape_gives_the_release_s_numbers(core: str, seed: int, tmp_path: Path) -> None:
    weights, flags, batch = drawn(core, seed)
    path = saved(weights, flags, tmp_path / "theirs.tar", "module." if seed % 2 else "")
    network = Released(doubled(weights), flags["network"])
    expected = {reset: network.logits(batch, reset) for reset in (False, True)}
    for reset in (False, True):
        policy = import_policy(path, as_released=not reset).double()
        assert_close(window(policy, batch)[0], expected[reset], atol=1e-9, rtol=0)
        single = window(policy.float(), batch)[0]
        assert_close(single, expected[reset].float(), atol=1e-3, rtol=0)
    assert_close(steps(policy.double(), batch)[0], expected[True], atol=1e-5, rtol=0)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_any_shape_has_the_release_s_gradients(core: str, seed: int, tmp_path: Path) -> None:
    weights, flags, batch = drawn(core, seed)
    policy = import_policy(saved(weights, flags, tmp_path / "a.tar"), as_released=True).double()
    double = doubled(weights)
    theirs = {n: v.requires_grad_() for n, v in double.items() if is_trained(n, v)}
    network = Released(double, flags["network"], training=True)
    expected = loss_of(network.logits(batch, reset=False), batch)
    expected.backward()
    loss = loss_of(policy.train()(batch, policy.initial_state(batch.lanes))[0], batch)
    loss.backward()
    assert_close(loss, expected, atol=1e-9, rtol=0)
    norms = {n: float("nan") if v.grad is None else float(v.grad.norm()) for n, v in theirs.items()}
    found = norms_by_their_names(policy, norms)
    assert len(found) > 40
    for name, norm in found.items():
        # A bias before BatchNorm has no gradient: both sides are rounding noise.
        assert norm == pytest.approx(norms[name], rel=1e-9, abs=1e-10), name


def is_trained(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and not name.startswith("crop.") and "running" not in name


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), batch.action_TB.flatten())


@pytest.mark.parametrize("core", CORES)
def test_an_imported_shape_is_loaded_as_a_policy(core: str, tmp_path: Path) -> None:
    weights, flags, batch = drawn(core, 20)
    path = saved(weights, flags, tmp_path / "theirs.tar")
    import_checkpoint(ckpt=str(path), output=str(tmp_path / "ours.ckpt"), as_released=True)
    logits = window(load_policy(tmp_path / "ours.ckpt"), batch)[0]
    expected = Released(doubled(weights), flags["network"]).logits(batch, reset=False)
    assert_close(logits, expected.float(), atol=1e-3, rtol=0)
