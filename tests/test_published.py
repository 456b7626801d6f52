"""Parity with the network that the paper's authors published."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling import load_policy
from agent_scaling.batch import Batch
from agent_scaling.errors import InputError
from agent_scaling.published import RENAMED, import_checkpoint, import_policy


@pytest.fixture(scope="module")
def checkpoint(reference: Path) -> Path:
    return reference / "reference" / "official_lstm_small.tar"


@pytest.fixture(scope="module")
def io(reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "reference" / "official_lstm_small_io.npz") as file:
        return dict(file)


def batch_of(io: dict[str, np.ndarray]) -> Batch:
    names = ("tty_chars", "tty_colors", "tty_cursor", "prev_action", "labels", "done")
    chars, colors, *others = (torch.from_numpy(io[name]) for name in names)
    return Batch(chars[:, :, 0], colors[:, :, 0], *others)


def state_of(io: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(io["h0"]), torch.from_numpy(io["c0"])


def test_evaluation_outputs(checkpoint: Path, io: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        logits, baseline, state = import_policy(checkpoint)(batch_of(io), state_of(io))
    for ours, name in (
        (logits, "logits"),
        (baseline, "baseline"),
        (state[0], "hn"),
        (state[1], "cn"),
    ):
        assert_close(ours, torch.from_numpy(io[f"eval_{name}"]), atol=1e-5, rtol=0)


def test_training_loss_and_gradients(checkpoint: Path, io: dict[str, np.ndarray]) -> None:
    policy = import_policy(checkpoint).train()
    batch = batch_of(io)
    logits, _, _ = policy(batch, state_of(io))
    loss = F.cross_entropy(logits.flatten(0, 1), batch.action_TB.flatten())
    loss.backward()
    assert loss.item() == pytest.approx(float(io["train_loss"]), abs=1e-5)
    ours = {name: p.grad.norm() for name, p in policy.named_parameters() if p.grad is not None}
    compared = 0
    for name, norm in zip(io["grad_names"].tolist(), io["grad_norms"].tolist(), strict=True):
        prefix = next(p for p in RENAMED if name.startswith(p))
        ours_norm = float(ours[RENAMED[prefix] + name[len(prefix) :]])
        # A bias before BatchNorm has no gradient: both sides are rounding noise.
        assert ours_norm == pytest.approx(norm, rel=1e-4, abs=1e-6), name
        compared += norm > 1e-6
    assert compared > 60


def test_import_writes_a_checkpoint_of_ours(
    checkpoint: Path, io: dict[str, np.ndarray], tmp_path: Path
) -> None:
    import_checkpoint(ckpt=str(checkpoint), output=str(tmp_path / "ours.ckpt"))
    with torch.no_grad():
        logits, _, _ = load_policy(tmp_path / "ours.ckpt")(batch_of(io), state_of(io))
    assert_close(logits, torch.from_numpy(io["eval_logits"]), atol=1e-5, rtol=0)


def rewritten(checkpoint: Path, target: Path, flags: object, prefix: str = "") -> Path:
    loaded = torch.load(checkpoint, weights_only=True)
    weights = {prefix + name: value for name, value in loaded["model_state_dict"].items()}
    torch.save({"model_state_dict": weights, "flags": flags}, target)
    return target


def test_prefix_and_namespace_are_read(
    checkpoint: Path, io: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = rewritten(checkpoint, tmp_path / "ddp.tar", Namespace(h_dim=64), prefix="module.")
    with torch.no_grad():
        logits, _, _ = import_policy(path)(batch_of(io), state_of(io))
    assert_close(logits, torch.from_numpy(io["eval_logits"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "flag", [{"use_inventory": True}, {"lagged_actions": 3}, {"no_max_pool": True}]
)
def test_unsupported_flag_is_named(
    checkpoint: Path, tmp_path: Path, flag: dict[str, object]
) -> None:
    path = rewritten(checkpoint, tmp_path / "other.tar", flag)
    with pytest.raises(InputError, match=next(iter(flag))):
        import_policy(path)
