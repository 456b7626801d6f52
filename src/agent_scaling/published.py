"""Checkpoints that the paper's authors publish (first version, LSTM), as policies of ours.

The network's shape is read from the tensors; the flags only tell what shapes cannot.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from agent_scaling.actions import NUM_ACTIONS
from agent_scaling.checkpoint import (
    AtomicCheckpointIO,
    build_policy,
    check_weights,
    read_checkpoint,
)
from agent_scaling.encoders.screen import CROP, CROP_CHANNELS
from agent_scaling.errors import InputError
from agent_scaling.policy import Policy

RENAMED = {
    "topline_encoder.msg_fwd.0.weight": "encoder.message.table",
    "topline_encoder.msg_fwd.0.bias": "encoder.message.bias",
    "topline_encoder.msg_fwd.2.": "encoder.message.out.",
    "bottomline_encoder.conv_net.": "encoder.status.convs.",
    "bottomline_encoder.fwd_net.": "encoder.status.mlp.",
    "screen_encoder.conv_net.": "encoder.map.blocks.",
    "screen_encoder.fc_head.": "encoder.map.mlp.",
    "screen_encoder.char_embeddings.": "encoder.chars.",
    "screen_encoder.color_embeddings.": "encoder.colors.",
    "extract_crop_representation.": "encoder.crop.net.",
    "fc.": "encoder.fc.",
    "core.": "core.lstm.",
    "policy.": "policy.",
    "baseline.": "baseline.",
}
"""Their parameter names (or prefixes) → ours."""

UNUSED = ("reward_sum", "reward_m2", "reward_count", "crop.")
"""Buffers that do not take part in the forward pass, or that we compute."""

FIXED_FLAGS: dict[str, Any] = {
    "use_lstm": True,
    "use_policy_and_value_heads": True,
    "num_actions": NUM_ACTIONS,
    "char_edim": 16,
    "color_edim": 16,
    "crop_dim": CROP,
    "crop_out_filters": CROP_CHANNELS[-1],
    "crop_num_layers": len(CROP_CHANNELS),
    "crop_inter_filters": CROP_CHANNELS[0],
    "crop_padding": 1,
    "crop_kernel_size": 3,
    "crop_stride": 1,
    "obs_frame_stack": 1,
    "screen_kernel_size": 3,
    "no_max_pool": False,
    "normalize_blstats": False,
    "lagged_actions": 0,
}
"""Flags that change the function and have one supported value."""

KNOWN_USES = {
    "use_lstm",
    "use_resnet",
    "use_crop",
    "use_crop_norm",
    "use_prev_action",
    "use_policy_and_value_heads",
}
"""Features (``use_…``) that we have; any other is refused when it is on."""

# Flags may be pickled as a Namespace: plain data, which the weights-only reader may build.
torch.serialization.add_safe_globals([Namespace])


def import_checkpoint(*, ckpt: str, output: str) -> None:
    """The ``import`` verb: write ``ckpt`` (theirs) as ``output`` (ours).

    Raises:
        InputError: The file cannot be read, or uses a flag that is not supported (named).
    """
    policy = import_policy(ckpt)
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    made = {"policy_config": policy.config, "state_dict": weights, "imported_from": ckpt}
    AtomicCheckpointIO().save_checkpoint(made, output)
    Console().print(f"{output}: {policy.num_params:,} parameters imported from {ckpt}")


def import_policy(path: str | Path) -> Policy:
    """Load a published checkpoint as a :class:`Policy` in evaluation mode.

    Raises:
        InputError: See :func:`import_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    theirs = checkpoint.get("model_state_dict")
    if not isinstance(theirs, Mapping):
        raise InputError(f"{path}: no model_state_dict in it: not a published checkpoint")
    flags = checkpoint.get("flags") or {}
    check_flags(flags if isinstance(flags, Mapping) else vars(flags), path)
    weights = {name.removeprefix("module."): value for name, value in theirs.items()}
    try:
        config = policy_config(weights)
    except KeyError as error:
        raise InputError(
            f"{path}: no {error} in its model_state_dict: not the LSTM network"
        ) from None
    policy = build_policy(config)
    ours = rename(weights, path)
    check_weights(policy, ours, path)
    policy.load_state_dict(ours)
    return policy.eval()


def check_flags(flags: Mapping[str, Any], path: str | Path) -> None:
    """Refuse, by name, a flag that asks for another function than ours."""
    for name, supported in FIXED_FLAGS.items():
        if name in flags and flags[name] != supported:
            raise InputError(
                f"{path}: flag {name}={flags[name]!r} is not supported (only {supported!r} is)"
            )
    for name, value in flags.items():
        if name.startswith("use_") and value and name not in KNOWN_USES:
            raise InputError(f"{path}: flag {name}={value!r} is not supported")


def policy_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of the policy that has these tensors (their names); ``KeyError`` if one lacks."""

    def count(pattern: str) -> int:
        return len({m.group(1) for name in weights if (m := re.fullmatch(pattern, name))})

    width, joined = weights["fc.0.weight"].shape
    message_width = weights["topline_encoder.msg_fwd.0.bias"].shape[0]
    status_width = weights["bottomline_encoder.fwd_net.0.bias"].shape[0]
    map_width = weights["screen_encoder.fc_head.0.bias"].shape[0]
    crop = "extract_crop_representation.0.weight" in weights
    crop_width = CROP_CHANNELS[-1] * CROP**2 if crop else 0
    encoder = {
        "_target_": "agent_scaling.encoders.nethack.NetHackEncoder",
        "width": width,
        "message_width": message_width,
        "status_width": 4 * status_width,
        "map_width": map_width,
        "map_fc_layers": count(r"screen_encoder\.fc_head\.(\d+)\.weight"),
        "fc_layers": count(r"fc\.(\d+)\.weight"),
        "blocks": count(r"screen_encoder\.conv_net\.(\d+)\.0\.weight"),
        "residual_blocks": count(r"screen_encoder\.conv_net\.0\.(\d+)\.net\.0\.weight"),
        # conv, norm, activation: every third module of a residual block is a convolution.
        "residual_layers": count(r"screen_encoder\.conv_net\.0\.2\.net\.(\d+)\.running_mean"),
        "channel_scale": weights["screen_encoder.conv_net.0.0.bias"].shape[0] / 16,
        "crop": crop,
        "crop_norm": "extract_crop_representation.1.running_mean" in weights,
        "channels_last": False,  # parity down to the gradients
        "prev_action": joined > message_width + status_width + map_width + crop_width,
    }
    core = {
        "_target_": "agent_scaling.cores.lstm.LSTMCore",
        "_partial_": True,
        "width": weights["core.weight_hh_l0"].shape[1],
        "layers": count(r"core\.(weight_ih_l\d+)"),
    }
    return {"_target_": "agent_scaling.policy.Policy", "encoder": encoder, "core": core}


def rename(weights: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Their names → ours; the message line's matrix is transposed into a table of rows."""
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.startswith(UNUSED):
            continue
        prefix = next((p for p in RENAMED if name.startswith(p)), None)
        if prefix is None:
            raise InputError(f"{path}: parameter {name} belongs to a part that is not supported")
        new = RENAMED[prefix] + name[len(prefix) :]
        found[new] = value.T.contiguous() if new == "encoder.message.table" else value
    return found
