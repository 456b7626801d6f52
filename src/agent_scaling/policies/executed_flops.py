"""FLOPs that a real training step executes: for utilisation, never for fits."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from agent_scaling.data.batch import blank_batch
from agent_scaling.policies.policy import Policy

Shape = tuple[int, ...]


def conv_backward_flops(
    grad_out: Shape,
    x: Shape,
    weight: Shape,
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    output_mask: list[bool],
    out_shape: object = None,
) -> int:
    """A forward pass for each of the gradients asked for: the input's and the weight's.

    torch's own formula takes a depthwise convolution's weight gradient for a dense one.
    """
    forward: int = conv_flop_count(list(x), list(weight), list(grad_out), transposed)
    return forward * sum(output_mask[:2])


COUNTED = {torch.ops.aten.convolution_backward: conv_backward_flops}
"""Formulas that replace torch's own; ``custom_mapping`` of a ``FlopCounterMode``."""


def hardware_flops(policy: Policy, steps: int, lanes: int) -> int:
    """FLOPs of one step of behavioural cloning on [steps, lanes] frames.

    A dispatcher counts the operators of forward and backward pass on the meta device. Added is
    what LSTM kernels do unasked: the gradient of their initial state. Not counted is what a fused
    attention kernel computes twice in its backward pass.

    Args:
        policy: The policy; it is not touched.
        steps: Unroll length T: attention's masked products and the scan's chunks depend on it.
        lanes: Lanes B; the count is proportional to them.
    """
    ghost = without_memory(policy).train()
    batch = blank_batch(steps, lanes, device="meta")
    batch.openings = ()  # the count does not depend on where games open
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        logits_TBA, _, _ = ghost(batch, ghost.initial_state(lanes))
        loss = F.cross_entropy(logits_TBA.flatten(0, 1), batch.action_TB.flatten())
        torch.autograd.backward(loss)
    counted: int = counter.get_total_flops()
    lstms = [module for module in policy.modules() if isinstance(module, nn.LSTM)]
    return counted + sum(lanes * m.num_layers * 2 * 4 * m.hidden_size**2 for m in lstms)


def without_memory(policy: Policy) -> Policy:
    """A copy on the meta device."""
    memo: dict[int, Tensor] = {}
    for parameter in policy.parameters():
        shadow = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        memo[id(parameter)] = shadow
    for buffer in policy.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(policy, memo)
