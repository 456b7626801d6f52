"""FLOPs of a policy per frame, computed from its shapes: never from kernels, dtypes or data."""

from __future__ import annotations

from typing import Literal, get_args

from agent_scaling.policies.costs import LayerCost
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError

Convention = Literal["model", "exact", "paper", "paper_atari", "6nd", "hardware"]
BUDGETS: tuple[Convention, ...] = ("model", "exact", "paper", "paper_atari", "6nd")
"""Conventions that budgets may be in: functions of the policy alone."""

TRAINING_PASSES = 3
"""Training costs three forward passes: one forward, two backward (Kaplan et al. 2020, §2.1)."""


def layer_flops(cost: LayerCost, convention: Convention) -> int:
    """Forward FLOPs of one layer for one frame, as ``convention`` counts them."""
    if convention == "paper":
        return cost.flops + cost.dense_flops + cost.bias_flops
    if convention == "paper_atari" and cost.input_flops is not None:
        return cost.input_flops
    return cost.flops


def training_flops(policy: Policy, cost: LayerCost, convention: Convention) -> int:
    """FLOPs of one layer for one frame of training, forward and backward."""
    passes = TRAINING_PASSES
    if convention == "exact" and cost.name in getattr(policy.encoder, "first_layers", ()):
        passes -= 1  # nobody needs the gradient of a screen
    return passes * layer_flops(cost, convention)


def flops_per_frame(
    policy: Policy, convention: Convention = "model", training: bool = True, steps: int = 80
) -> float:
    """FLOPs that one frame costs.

    Args:
        policy: The policy.
        convention: ``model``: matrix products and convolutions at their true sizes, look-ups free;
            ``exact``: the same, but layers that read raw inputs (``first_layers`` of the encoder)
            train at 2 × forward, because no gradient of their input is computed;
            ``paper``: as the paper's release counts, with the message line as the dense layer that
            it runs and 4·h per LSTM layer; ``paper_atari``: as its Atari experiments are published,
            each convolution over pixels charged at its input's size; ``6nd``: 6 per trainable
            parameter (2 forward);
            ``hardware``: what a training step executes, for utilisation alone.
        training: Forward and backward (3 × forward), else forward alone.
        steps: Unroll length of the training step, for ``hardware``.

    Raises:
        InputError: The convention is unknown, or ``hardware`` is asked of a forward pass.
    """
    if convention not in get_args(Convention):
        known = ", ".join(get_args(Convention))
        raise InputError(f"flops convention {convention!r} is unknown; use one of {known}")
    if convention == "hardware":
        if not training:
            raise InputError("flops convention 'hardware' counts a training step: training=true")
        return hardware_flops(policy, steps, lanes=1) / steps
    if convention == "6nd":
        return float(2 * (TRAINING_PASSES if training else 1) * policy.num_params)
    if training:
        return float(sum(training_flops(policy, cost, convention) for cost in policy.costs()))
    return float(sum(layer_flops(cost, convention) for cost in policy.costs()))
