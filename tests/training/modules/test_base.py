"""What all modules share: accumulation, clipping, and the rate as a function of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import Callback
from torch.nn import functional as F
from torch.utils.data import DataLoader

from agent_scaling.data.batch import Batch
from agent_scaling.policies.policy import Policy
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.training.optim.schedules import Schedule
from tests.helpers.policies import random_batch, small_policy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:You defined a .validation_step.*",
    "ignore:.*litlogger.*",
)
STEPS, LANES = 3, 2
LR = 0.1


class Watch(Callback):
    """What the module says after each window."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((pl_module.frames, pl_module.step_frames, rate))


def windows(count: int) -> list[Batch]:
    return [random_batch(STEPS, LANES, seed=n) for n in range(count)]


def fit(
    tmp_path: Path,
    data: list[Batch],
    accumulate: int = 1,
    clip: float | None = None,
    schedule: Schedule | None = None,
) -> tuple[BehaviouralCloning, list[tuple[int, int, float]]]:
    module = BehaviouralCloning(
        small_policy(crop_norm=False), OptimizerFactory(torch.optim.SGD, lr=LR), schedule
    )
    watch = Watch()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        default_root_dir=str(tmp_path),
        callbacks=[watch],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=None))  # type: ignore[arg-type]
    return module, watch.seen


def by_hand(data: list[Batch], clip: float | None = None) -> tuple[Policy, float]:
    """One step of SGD on the mean of the windows' losses, the state carried; and the norm."""
    policy = small_policy(crop_norm=False).train()
    state = policy.initial_state(LANES)
    losses = []
    for batch in data:
        logits, _, state = policy(batch, state)
        state = tuple(part.detach() for part in state)
        losses.append(F.cross_entropy(logits.flatten(0, 1), batch.action_TB.flatten()))
    torch.stack(losses).mean().backward()
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    norm = float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())
    factor = 1.0 if clip is None else min(1.0, clip / norm)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter -= LR * factor * parameter.grad
    return policy, norm


@pytest.mark.parametrize("clip", [None, 0.01])
def test_accumulated_gradient_is_the_mean_of_the_windows(
    tmp_path: Path, clip: float | None
) -> None:
    data = windows(3)
    module, seen = fit(tmp_path, data, accumulate=3, clip=clip)
    expected, norm = by_hand(data, clip)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(module.policy.get_parameter(name), parameter)
    assert float(module.grad_norm.compute()) == pytest.approx(norm, rel=1e-5)
    whole = 3 * STEPS * LANES
    assert [row[:2] for row in seen] == [(0, 0), (0, 0), (whole, whole)]


def test_rate_at_a_frame_does_not_depend_on_the_steps(tmp_path: Path) -> None:
    data = windows(12)
    schedule = Schedule(decay="cosine", unit="frames", warmup=18, horizon=72, final=0.1)
    _, every = fit(tmp_path, data, schedule=schedule)
    _, third = fit(tmp_path, data, accumulate=3, schedule=schedule)
    rates = {frames: rate for frames, _, rate in every}
    assert len(set(rates.values())) == 12
    stepped = [(frames, rate) for frames, new, rate in third if new]
    assert [frames for frames, _ in stepped] == [18, 36, 54, 72]
    assert stepped[0][1] == LR
    assert stepped[-1][1] == pytest.approx(0.1 * LR)
    for frames, rate in stepped:
        assert rate == rates[frames]
