"""Training on torch's meta device, where reading any value raises, as it would wait on a GPU."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from agent_scaling.data.batch import Batch, Played
from agent_scaling.training.hooks import run_module
from data_modules.actors import ActorsDataModule
from tests.helpers.policies import random_batch

STEPS = 3


class FinishedError(Exception):
    """Ends a run between milestones."""


class MetaAccelerator(CPUAccelerator):
    """A machine whose device keeps shapes and no values."""

    def setup_device(self, device: torch.device) -> None:
        assert device.type == "meta"


class OnMeta(SingleDeviceStrategy):
    """Module and batches go to the meta device."""

    def __init__(self) -> None:
        super().__init__(device="meta", accelerator=MetaAccelerator())

    def teardown(self) -> None:
        """Leave all where it is: there are no values to bring to the CPU."""


class EndsRun(Callback):
    """Ends the run after some steps, before anything is measured; :class:`Sent` counts between."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        Sent.counting = batch_idx + 1 < STEPS
        if not Sent.counting:
            raise FinishedError


class Reads(Callback):
    """Waits for the device, as a careless callback does."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        outputs["loss"].item()


class Sends(Callback):
    """Copies a number of the host to the device, which waits for the device, too."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        torch.zeros(2).to(pl_module.device)


class Unrolls(ActorsDataModule):
    """Unrolls that nobody played."""

    def train_dataloader(self) -> Any:
        assert self.trainer is not None
        return Drawn(self, self.trainer)


class Drawn:
    """An endless loader of random unrolls for the trainer's policy."""

    def __init__(self, data: ActorsDataModule, trainer: Trainer) -> None:
        self.data, self.trainer = data, trainer

    def __iter__(self) -> Iterator[Batch]:
        policy, lanes = run_module(self.trainer.lightning_module).policy, self.data.lanes
        while True:
            unroll = random_batch(self.data.unroll_length + 1, lanes, openings=0.1)
            unroll.game_TB = None
            unroll.action_TB %= policy.num_actions
            unroll.prev_action_TB %= policy.num_actions
            unroll.action_TB[-1] = -100
            unroll.reward_TB = torch.randn(unroll.action_TB.shape)
            unroll.behaviour_logits_TBA = torch.zeros(*unroll.action_TB.shape, policy.num_actions)
            unroll.openings = unroll.opening_steps()  # as actors tell it
            state = [torch.zeros_like(part, device="cpu") for part in policy.initial_state(lanes)]
            unroll.played = Played(state=tuple(state), updates=0, episodes=[])
            yield unroll


class Sent(TorchDispatchMode):
    """Where the host's memory was copied to the device, after the first step, outside of batches:
    it has waited each time."""

    counting = False

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        copies = self.counting and func is torch.ops.aten._to_copy.default
        if copies and not kwargs.get("non_blocking"):
            (source,) = args
            if source.device.type == "cpu" and str(kwargs.get("device")) == "meta":
                self.places.append("".join(traceback.format_stack(limit=8)))
        return func(*args, **kwargs)


def pinned(tensor: Tensor, *_: Any) -> Tensor:
    """The tensor as it is: no GPU reads it."""
    return tensor


ON_META = [
    "+trainer.strategy={_target_:tests.helpers.on_meta.OnMeta}",
    "trainer.accelerator=auto",
    "+callbacks.ends={_target_:tests.helpers.on_meta.EndsRun}",
]
