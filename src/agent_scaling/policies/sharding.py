"""Shards a policy's parameters over ranks (FSDP2), and gathers a whole policy again."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.modules.batchnorm import _BatchNorm

from agent_scaling.policies.checkpoints.load import build_policy
from agent_scaling.policies.policy import Policy


def shard_policy(policy: Policy, mesh: DeviceMesh, half: bool = False) -> None:
    """Leave each rank its share of every parameter, in place.

    Gathered together, and let go again, are the parameters of a block of a stack (``ModuleList``),
    those of the rest of the core, of the encoder, and what is left.

    Args:
        policy: The same on every rank.
        mesh: [machines, ranks of each]: parameters are shared out over the second axis, and the
            first has copies (Zhao et al. 2023, arXiv 2304.11277, hybrid sharding).
        half: Gather copies in bfloat16, and compute with these; shares and gradients' sums stay
            float32.
    """
    for parameter in policy.parameters():
        parameter.data = parameter.data.contiguous()  # convolutions' are channels-last
    exchange = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,
    )
    for norm in [module for module in policy.modules() if isinstance(module, _BatchNorm)]:
        if half:  # its statistics are of one type with its weights
            fully_shard(norm, mesh=mesh)
    stacks = [module for module in policy.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for stack in stacks for block in stack]
    for part in (*blocks, policy.get_submodule("core"), policy.get_submodule("encoder")):
        fully_shard(part, mesh=mesh, mp_policy=exchange)
    fully_shard(policy, mesh=mesh, mp_policy=exchange)


def is_sharded(policy: Policy) -> bool:
    """True where :func:`shard_policy` has sharded the policy."""
    return isinstance(policy, FSDPModule)


def whole_policy(policy: Policy) -> Policy:
    """Return the policy, or a whole copy of a sharded one, which works without the other ranks.

    Every rank must call this.
    """
    if not is_sharded(policy):
        return policy
    copy = build_policy(policy.config)
    copy.load_state_dict(
        get_model_state_dict(policy, options=StateDictOptions(full_state_dict=True))
    )
    copy.game = policy.game
    return copy.to(next(policy.parameters()).device)
