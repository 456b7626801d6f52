"""Memory of a training step, computed on the meta device: nothing is allocated."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from agent_scaling.data.batch import FIELDS, Batch, blank_batch
from agent_scaling.policies.executed_flops import without_memory
from agent_scaling.policies.policy import Policy, State

STATE_BYTES = 4 * 4
"""Per parameter, in float32: the weight, its gradient and Adam's two moments."""

USABLE = 0.9
"""Share of a device's memory for tensors; CUDA's context, its libraries' workspaces and gaps
between tensors have the rest."""

MANY = 1024
"""Lanes of the traced step: what no frame adds to, as one layer's gradient, vanishes beside it."""


@dataclass(frozen=True)
class StepMemory:
    """Memory that a training step of behavioural cloning needs, in bytes."""

    state: int
    """Weights, gradients and Adam's moments, in float32."""
    per_frame: float
    """Of the batch and the activations, for each frame of the batch, at the step's fullest."""

    def total(self, frames: int) -> float:
        """Bytes of a step on so many frames, lanes times unroll length."""
        return self.state + self.per_frame * frames

    def most_lanes(self, device_bytes: float, steps: int) -> int:
        """The largest number of lanes whose windows of ``steps`` frames fit; 0: not even one."""
        return max(0, int((USABLE * device_bytes - self.state) // (self.per_frame * steps)))


def step_memory(policy: Policy, steps: int) -> StepMemory:
    """Memory of a training step in float32, on windows of ``steps`` frames whose games go on.

    Every operator of forward pass, loss and backward pass runs on the meta device, where tensors
    have shapes and lifetimes, but no bytes; the peak of those that exist at once counts. Attention
    counts as the kernel that GPUs run, which keeps no scores; an LSTM as its cells, operator by
    operator. Not counted: workspaces inside of kernels.

    Args:
        policy: The policy; it is not touched. ``recompute`` and ``encoder.checkpoint`` count.
        steps: Unroll length T.
    """
    ghost = without_memory(policy).train()
    for parameter in ghost.parameters():
        if parameter.requires_grad:  # gradients are counted with the state
            cast(Any, parameter).register_post_accumulate_grad_hook(drop_gradient)
    batch, batch_bytes = window(policy, steps)
    known = [*ghost.parameters(), *ghost.buffers(), *tree_leaves(tensors(batch))]
    with Attention(), Live(known) as live:
        learn(ghost, batch)
    return StepMemory(STATE_BYTES * policy.num_params, (batch_bytes + live.peak) / (steps * MANY))


def with_checkpoint(policy: Policy) -> Policy | None:
    """A copy without memory whose encoder computes its activations again; None if it cannot."""
    encoder = policy.get_submodule("encoder")
    if policy.recompute is not None or getattr(encoder, "checkpoint", True):
        return None
    ghost = without_memory(policy)
    vars(ghost.get_submodule("encoder"))["checkpoint"] = True
    return ghost


def learn(policy: Policy, batch: Batch) -> State:
    """Forward pass, loss and backward pass; return the state with which the next window begins."""
    logits_TBA, _, after = policy(batch, policy.initial_state(batch.lanes))
    kept = tuple(part.detach().contiguous() for part in after)
    del after
    torch.autograd.backward(F.cross_entropy(logits_TBA.flatten(0, 1), batch.action_TB.flatten()))
    return kept


def window(policy: Policy, steps: int) -> tuple[Batch, int]:
    """A window of :data:`MANY` lanes on the meta device, and the bytes that the policy reads."""
    batch = blank_batch(steps, MANY, device="meta")
    batch.openings = ()
    unread = set(FIELDS) - set(policy.observations)
    for name in unread:
        setattr(batch, FIELDS[name], None)
    return batch, sum(tensor.untyped_storage().nbytes() for tensor in tensors(batch))


def tensors(batch: Batch) -> list[Tensor]:
    """List the tensors that a batch holds."""
    found = (getattr(batch, name) for name in batch.__slots__)
    return [value for value in found if isinstance(value, Tensor)]


def drop_gradient(parameter: Tensor) -> None:
    """Let a gradient go as soon as it is whole."""
    parameter.grad = None


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the tensors that exist, and keeps the peak.

    Args:
        known: Tensors that exist before, and do not count.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        cast(Any, super()).__init__()
        self.bytes = self.peak = 0
        self._seen = WeakIdKeyDictionary({tensor.untyped_storage(): None for tensor in known})

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:  # a view, or written in place
            return
        self._seen[storage] = None
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.bytes -= size


class Attention(TorchFunctionMode):
    """Runs masked attention as the kernel that GPUs take: without a matrix of scores.

    Of each row of scores it keeps one float32. The mask becomes an addend, whose rows begin at
    multiples of eight numbers; heads share it.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value, mask = cast(list[Tensor], [*args, (kwargs or {})["attn_mask"]])
        keys = -(-key.shape[-2] // 8) * 8
        bias = query.new_zeros(*mask.shape[:-1], keys)[..., : key.shape[-2]]
        bias = bias.expand(*query.shape[:-1], key.shape[-2])
        attend = torch.ops.aten._scaled_dot_product_efficient_attention
        seen, *_ = attend(query, key, value, bias, True)
        return cast(Tensor, seen)
