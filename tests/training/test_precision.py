"""``trainer.precision``: bfloat16 learns as float32 does; what must be exact stays float32."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.cores import transformer
from agent_scaling.policies.cores.lstm import LSTMCore
from agent_scaling.policies.cores.mamba import MambaCore
from agent_scaling.policies.cores.mamba1 import Mamba1Core
from agent_scaling.policies.cores.none import NoCore
from agent_scaling.policies.cores.transformer import TransformerCore
from agent_scaling.policies.encoders.atari import AtariCNN, AtariProfiles
from agent_scaling.policies.encoders.compact import CompactEncoder
from agent_scaling.policies.encoders.nethack import NetHackEncoder
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.build import build, quiet
from agent_scaling.training.device.compilation import split
from agent_scaling.training.device.precision import halve
from agent_scaling.training.objectives.losses import summed_nats
from tests.helpers import impala_runs
from tests.helpers.policies import SMALL, random_batch
from tests.helpers.runs import UNCOMPARED, composed, overrides, train
from tests.training.test_recipe import BOTH
from tests.training.test_resume import assert_same

HALF = ("bf16-mixed", "bf16-true")
STEPS, LATE, UNROLLS = 100, 30, 20


class Losses(Callback):
    """The loss of each step."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach().clone())


def losses(settings: list[str], folder: Path) -> Tensor:
    """The loss of each step of a run that nothing interrupts."""
    quiet()
    cfg = composed("train", settings)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    (module, data), seen = build(cfg), Losses()
    options, _, plugins = split(cfg.trainer)
    trainer = instantiate(
        options, callbacks=[seen], default_root_dir=str(folder), plugins=plugins or None
    )
    trainer.fit(module, data)
    return torch.stack(seen.losses)


TINY = [
    "experiment=nethack_bc",
    "policy.params=1e4",
    "data.lanes=8",
    "data.unroll_length=8",
    "schedule=constant",
    "flops_budget=1e18",
    f"trainer.max_steps={STEPS}",
]


@pytest.mark.parametrize(
    "optimizer", [["optimizer=adam", "optimizer.lr=4e-3"], ["optimizer=muon"]], ids=str
)
def test_cloning_learns_as_in_float32(
    optimizer: list[str], tiny_shards: Path, tmp_path: Path
) -> None:
    found = {}
    for precision in ("32-true", *HALF):
        given = [*TINY, *optimizer, f"trainer.precision={precision}"]
        nats = losses(overrides(tiny_shards, tmp_path / "run", *given), tmp_path)
        assert len(nats) == STEPS
        assert nats.dtype == torch.float32
        found[precision] = float(nats.mean())
        assert nats[-LATE:].mean() < 0.3 * nats[0]
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], rel=0.01)
    assert found["bf16-true"] == pytest.approx(found["32-true"], rel=0.01)


@pytest.mark.parametrize("precision", HALF)
def test_the_learner_stays_finite_and_counts_rewards_exactly(
    precision: str, tmp_path: Path
) -> None:
    more = ["module.rewards.normalise=true", f"trainer.precision={precision}"]
    saved = impala_runs.run(tmp_path / "run", UNROLLS, *more)
    weights = saved["state_dict"]
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    statistics = {name: value for name, value in weights.items() if "rewards." in name}
    assert {value.dtype for value in statistics.values()} == {torch.float64}
    played = UNROLLS * impala_runs.LANES * impala_runs.STEPS
    assert statistics["rewards.count"] == played
    assert_float32(saved)


def assert_float32(saved: dict[str, Any]) -> None:
    """Weights, moments, averages and states are float32 (or wider)."""
    parts = [saved["state_dict"], saved.get("current_model_state", {})]
    parts += saved["optimizer_states"][0]["state"].values()
    tensors = [value for part in parts for value in part.values() if isinstance(value, Tensor)]
    tensors += saved.get("lane_state") or []
    floats = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    assert floats <= {torch.float32, torch.float64}
    assert floats


SHORT = [
    "experiment=nethack_bc",
    "policy.params=1e4",
    "flops_budget=1e18",
    "callbacks.ema.decay=0.7",
    "trainer.accumulate_grad_batches=2",
    *UNCOMPARED,
]


@pytest.mark.parametrize("precision", HALF)
def test_it_resumes_bit_exactly_and_saves_float32(
    precision: str, tiny_shards: Path, tmp_path: Path
) -> None:
    asked = [*SHORT, f"trainer.precision={precision}"]
    train(tiny_shards, tmp_path / "whole" / "run", *asked, "trainer.max_steps=4")
    for steps in (1, 4):
        last = [f"trainer.max_steps={steps}", "ckpt_path=last"]
        train(tiny_shards, tmp_path / "parts" / "run", *asked, *last)
    files = [tmp_path / name / "run" / "checkpoints" / "last.ckpt" for name in ("whole", "parts")]
    ours, theirs = map(read_checkpoint, files)
    for part in BOTH:
        assert_same(ours[part], theirs[part], part)
    assert_float32(ours)
    assert {p.dtype for p in load_policy(files[0]).parameters()} == {torch.float32}


def test_steps_too_small_for_bfloat16_are_taken(tiny_shards: Path, tmp_path: Path) -> None:
    """With muP, whose factors are of the same optimiser."""
    tiny = ["optimizer=adam", "optimizer.lr=1e-6", "optimizer.mup=true", *SHORT]
    asked = [*tiny, "optimizer.base.params=5e3", "callbacks.ema.decay=null"]
    weights = []
    for steps in (1, 9):
        output = tmp_path / str(steps) / "run"
        more = ["trainer.precision=bf16-true", f"trainer.max_steps={steps}"]
        train(tiny_shards, output, *asked, *more)
        weights.append(read_checkpoint(output / "checkpoints" / "last.ckpt")["state_dict"])
    early, late = (saved["policy.policy.weight"] for saved in weights)
    moved = (late - early).abs()
    assert moved.max() < 2e-5
    assert (moved > 0).float().mean() > 0.9


CORES: dict[str, Callable[[int], Any]] = {
    "lstm": lambda width: LSTMCore(width, 16, 2),
    "transformer": lambda width: TransformerCore(width, 16, 1, context=5, head_dim=8),
    "mamba": lambda width: MambaCore(width, 16, 1, state_size=8, head_dim=8),
    "mamba1": lambda width: Mamba1Core(width, 16, 1, state_size=4),
    "none": NoCore,
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "paper": lambda: NetHackEncoder(**{**SMALL, "inventory": True, "moves": True}),
    "ours": lambda: CompactEncoder(16, 2, 3, True, 2, 16, True, 32, 4, inventory=True),
    "cnn": lambda: AtariCNN(2),
    "profiles": lambda: AtariProfiles(16),
}
PAIRS = [("paper", core) for core in CORES] + [(encoder, "lstm") for encoder in ENCODERS][1:]


@pytest.fixture
def long_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention computes windows of more than three frames again in the backward pass."""
    monkeypatch.setattr(transformer, "QUERIES", 3)


@pytest.mark.usefixtures("long_windows")
@pytest.mark.parametrize("recompute", [None, 4])
@pytest.mark.parametrize(("encoder", "core"), PAIRS)
def test_gradients_are_near_and_reach_float32_weights(
    encoder: str, core: str, recompute: int | None
) -> None:
    torch.manual_seed(0)
    policy = Policy(ENCODERS[encoder](), CORES[core], recompute=recompute)
    batch = random_batch(9, 4, openings=0.2)
    batch.frame_TBHW = torch.randint(0, 256, (9, 4, 84, 84), dtype=torch.uint8)
    half = copy.deepcopy(policy)  # statistics of screens are learnt in passing
    exact_TBA, after, expected = answers(policy, batch, dict(policy.named_parameters()))
    own = dict(half.named_parameters())
    replaced = halve(half)
    half_TBA, half_after, found = answers(half, batch, own)
    for module, name, parameter in replaced:
        module._parameters[name] = parameter
    assert (exact_TBA.dtype, half_TBA.dtype) == (torch.float32, torch.bfloat16)
    assert [part.dtype for part in half_after] == [part.dtype for part in after]
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    assert found.keys() == expected.keys()
    apart = sum((found[name] - expected[name]).square().sum() for name in found)
    whole = sum(gradient.square().sum() for gradient in expected.values())
    assert apart.sqrt() < 0.15 * whole.sqrt()  # pooling breaks ties of rounded cells otherwise


def answers(
    policy: Policy, batch: Batch, own: dict[str, nn.Parameter]
) -> tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]:
    """Logits, the state after the window, and the gradient of each parameter that has one."""
    for parameter in own.values():
        parameter.grad = None
    logits_TBA, _, after = policy(batch, policy.initial_state(batch.lanes))
    nats, decisions = summed_nats(logits_TBA, batch.action_TB)
    (nats / decisions).backward()
    found = {name: p.grad for name, p in own.items() if p.grad is not None}
    return logits_TBA, after, found


def test_float16_without_a_scale_is_refused() -> None:
    trainer = composed("train", ["trainer.precision=16-true"]).trainer
    with pytest.raises(InputError, match="precision=16-true: float16 without a scale loses"):
        split(trainer)
