"""Parity with the network that the paper's authors published."""

from __future__ import annotations

import warnings
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling import load_policy
from agent_scaling.data.batch import Batch
from agent_scaling.policies.checkpoints.published import (
    RENAMED,
    import_checkpoint,
    import_policy,
    rename,
)
from agent_scaling.runtime.errors import InputError
from benchmarks.published_network import PublishedNetwork, Shape
from tests.helpers.policies import random_batch


@pytest.fixture(scope="module")
def checkpoint(reference: Path) -> Path:
    return reference / "reference" / "official_lstm_small.tar"


@pytest.fixture(scope="module")
def io(reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "reference" / "official_lstm_small_io.npz") as file:
        return dict(file)


def batch_of(io: dict[str, np.ndarray]) -> Batch:
    names = ("tty_chars", "tty_colors", "tty_cursor", "prev_action", "labels", "done")
    found = {name: torch.from_numpy(io[name]) for name in names}
    return Batch(
        chars_TBHW=found["tty_chars"][:, :, 0],
        colors_TBHW=found["tty_colors"][:, :, 0],
        cursor_TB2=found["tty_cursor"],
        prev_action_TB=found["prev_action"],
        action_TB=found["labels"],
        first_TB=found["done"],
    )


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


SHAPES = {
    "usual": Shape(h=24, message=5, status=40, map_width=20),
    "same widths": Shape(h=32, message=32),
    "deep": Shape(h=20, lstm_layers=3, fc_layers=4, map_fc_layers=3, status=12),
    "shallow": Shape(h=16, fc_layers=1, blocks=1, residual_blocks=1, residual_layers=1),
    "long blocks": Shape(h=16, blocks=2, residual_blocks=3, residual_layers=3, scale=0.5),
    "no residual blocks": Shape(h=16, residual_blocks=0),
    "cut channels": Shape(h=16, scale=0.3),  # 16 and 32 times it, cut: 4 and 9
    "wide channels": Shape(h=16, scale=1.5, residual_blocks=1, message=3),
    "no crop": Shape(h=24, crop=False),
    "crop without norms": Shape(h=24, crop_norm=False, message=7),
    "no previous action": Shape(h=24, prev_action=False),
    "no message": Shape(h=24, message=0),
    "no status": Shape(h=24, status=3),  # a quarter of it is the width
    "the map alone": Shape(h=16, message=0, status=2, crop=False, prev_action=False),
    "no core": Shape(h=24, lstm_layers=0),
    "stacked frames": Shape(h=24, frames=3),
    "narrow embeddings": Shape(h=24, embedding=6, frames=2, crop_norm=False),
}


def release(shape: Shape, seed: int = 0) -> tuple[PublishedNetwork, dict[str, Any]]:
    """A network of the release that has seen some frames, and its checkpoint."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        network = PublishedNetwork(shape)
    core = torch.zeros(2, max(1, shape.lstm_layers), 3, shape.h)
    network.train()(random_batch(2, 3, seed), (core[0], core[1]))  # norms get statistics
    buffers = dict.fromkeys(("reward_sum", "reward_m2", "reward_count"), torch.tensor(1.0))
    grids = {f"crop.{side}_grid": torch.zeros(9, 9) for side in ("width", "height")}
    weights = network.state_dict() | buffers | (grids if shape.crop else {})
    return network, {"model_state_dict": weights, "flags": {"h_dim": shape.h}}


@pytest.mark.parametrize("name", SHAPES)
def test_any_shape_of_the_release(name: str, tmp_path: Path) -> None:
    shape, path = SHAPES[name], tmp_path / "release.tar"
    theirs, checkpoint = release(shape, seed=len(name))
    torch.save(checkpoint, path)
    ours = import_policy(path)
    batch = random_batch(5, 3, seed=7, openings=0.2)
    core = tuple(torch.randn(2, shape.lstm_layers, 3, shape.h))
    stacks = ours.initial_state(3)[ours.core_parts :]
    state = (*core, *stacks) if shape.lstm_layers else stacks
    with torch.no_grad():
        expected, found = theirs.eval()(batch, core), ours(batch, state)
    assert_close(found[:2], expected[:2], atol=1e-5, rtol=0)
    core_state = expected[2] if shape.lstm_layers else ()
    assert_close(found[2][: ours.core_parts], core_state, atol=1e-5, rtol=0)

    for policy, start in ((theirs.train(), core), (ours.train(), state)):
        logits, baseline, _ = policy(batch, start)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.action_TB.flatten())
        (loss + baseline.square().mean()).backward()
    known = dict(ours.named_parameters())
    parameters = dict(theirs.named_parameters())
    gradients = {
        n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in parameters.items()
    }
    compared = 0.0
    for key, gradient in rename(gradients)[0].items():
        norm = float(gradient.norm())
        # A bias before BatchNorm has no gradient: both sides are rounding noise.
        assert float(known[key].grad.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-6), key
        compared += norm > 1e-6
        del known[key]
    assert not known
    assert compared > 10


def saved(tmp_path: Path, **more: Any) -> Path:
    """A small checkpoint of the release with other keys beside its weights."""
    path = tmp_path / "release.tar"
    torch.save({**release(Shape(h=16, blocks=1, residual_blocks=1))[1], **more}, path)
    return path


class Config:
    """What a program of theirs may pickle; ours does not know it."""

    def __init__(self, **flags: Any) -> None:
        self.__dict__.update(flags)


@pytest.mark.parametrize("kind", [dict, Namespace, SimpleNamespace, Config])
def test_flags_of_any_kind_are_read(kind: Any, tmp_path: Path) -> None:
    extra = {"use_gpu": True, "savedir": "x", "crop_dim": np.int64(9), "lagged_actions": None}
    assert import_policy(saved(tmp_path, flags=kind(**extra, crop_stride=1.0))).num_params
    with pytest.raises(InputError, match="lagged_actions"):
        import_policy(saved(tmp_path, flags=kind(**extra | {"lagged_actions": 3})))


def test_other_keys_do_not_matter(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    more = {"optimizer_state_dict": optimizer.state_dict(), "step": np.int64(3), "folder": tmp_path}
    more |= {"logger": Config(level=3), "numpy": np.random.default_rng(0).random(3), "flags": None}
    assert import_policy(saved(tmp_path, **more)).num_params
    weights = release(Shape(h=16))[1]["model_state_dict"]
    compiled = {f"module._orig_mod.{name}": value.double() for name, value in weights.items()}
    assert import_policy(saved(tmp_path, model_state_dict=compiled)).num_params


class Trap:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("call", [eval, exec, Path.touch])
def test_code_in_a_checkpoint_is_not_run(call: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    argument = ran if call is Path.touch else f"open({str(ran)!r}, 'w').close()"
    path = saved(tmp_path, trap=Trap(call, argument))
    with suppress(InputError):
        import_policy(path)
    assert not ran.exists()
    torch.load(path, weights_only=False)  # the trap is one
    assert ran.exists()


@pytest.mark.parametrize(
    "flag",
    [
        {"use_inventory": True},
        {"lagged_actions": 3},
        {"no_max_pool": True},
        {"use_lstm": False},
        {"use_charcnn_topline": 1},
        {"crop_dim": 12},
        {"num_actions": 23},
    ],
)
def test_unsupported_flag_is_named(
    checkpoint: Path, tmp_path: Path, flag: dict[str, object]
) -> None:
    path = rewritten(checkpoint, tmp_path / "other.tar", flag)
    with pytest.raises(InputError, match=next(iter(flag))):
        import_policy(path)


def change(weights: dict[str, torch.Tensor], name: str, shape: tuple[int, ...] | None) -> None:
    """Give a tensor another shape, or take it out."""
    del weights[name]
    if shape:
        weights[name] = torch.zeros(shape)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("fc.0.weight", (16, 900), r"fc\.0\.weight reads 900"),
        ("fc.0.bias", None, r"fc\.0\.bias has shape none"),
        ("policy.weight", (23, 16), "23 actions"),
        ("screen_encoder.color_embeddings.weight", (128, 8), "color_edim=8"),
        ("screen_encoder.conv_net.0.0.weight", (16, 32, 5, 5), r"conv_net\.0\.0\.weight has shape"),
        ("screen_encoder.fc_head.0.weight", (16, 26880), r"fc_head\.0\.weight has shape"),
        ("extract_crop_representation.0.weight", (32, 32, 3, 3), r"representation\.0\.weight"),
        ("bottomline_encoder.fwd_net.0.bias", None, "no 'bottomline_encoder"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    name: str, shape: tuple[int, ...] | None, said: str, tmp_path: Path
) -> None:
    checkpoint = release(Shape(h=16, blocks=1, residual_blocks=1))[1]
    change(checkpoint["model_state_dict"], name, shape)
    torch.save(checkpoint, tmp_path / "odd.tar")
    with pytest.raises(InputError, match=said):
        import_policy(tmp_path / "odd.tar")


def test_unknown_parts_are_named(tmp_path: Path) -> None:
    weights = release(Shape(h=16, blocks=1, residual_blocks=1))[1]["model_state_dict"]
    for name in ("action_embed.weight", "screen_encoder.conv_net.0.1.net.0.weight"):
        more = {"model_state_dict": weights | {name: torch.zeros(2, 2)}}
        with pytest.raises(InputError, match=r"action_embed|no_max_pool"):
            import_policy(saved(tmp_path, **more))
    for missing in ({}, {"model_state_dict": [1]}, {"model_state_dict": {"a": torch.zeros(1)}}):
        torch.save(missing, tmp_path / "other.tar")
        with pytest.raises(InputError, match="model_state_dict"):
            import_policy(tmp_path / "other.tar")
