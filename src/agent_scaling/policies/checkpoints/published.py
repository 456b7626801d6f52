"""Checkpoints that the paper's authors publish, as policies of ours.

This module has the first release's network; ``release2`` has the second's. A network's shape is
read from the tensors; the flags only tell what shapes cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.policies.checkpoints import release2
from agent_scaling.policies.checkpoints.files import write_checkpoint
from agent_scaling.policies.checkpoints.foreign import read_foreign
from agent_scaling.policies.checkpoints.load import build_policy
from agent_scaling.policies.encoders.screen import CROP, CROP_CHANNELS
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.terminal import say

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

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that data parallelism and compilation add to parameter names."""

UNUSED = ("reward_sum", "reward_m2", "reward_count", "crop.")
"""Buffers that do not take part in the forward pass, or that we compute."""

FIXED_FLAGS: dict[str, Any] = {
    "use_policy_and_value_heads": True,
    "num_actions": NUM_ACTIONS,
    "crop_dim": CROP,
    "crop_out_filters": CROP_CHANNELS[-1],
    "crop_num_layers": len(CROP_CHANNELS),
    "crop_inter_filters": CROP_CHANNELS[0],
    "crop_padding": 1,
    "crop_kernel_size": 3,
    "crop_stride": 1,
    "screen_kernel_size": 3,
    "no_max_pool": False,
    "normalize_blstats": False,
    "lagged_actions": 0,
    "use_charcnn_topline": False,
    "use_parsed_blstats": False,
    "use_condition_bits": False,
    "use_bl_role": False,
    "use_encumbrance": False,
    "use_inventory": False,
    "use_cur_action": False,
}
"""Flags of the release's network that change its function and have one supported value."""


def import_checkpoint(*, ckpt: str, output: str, as_released: bool = False) -> None:
    """The ``import`` verb: write ``ckpt`` (theirs) as ``output`` (ours).

    Args:
        ckpt: A checkpoint of the first or the second release.
        output: The file to write.
        as_released: Reset the core's state as the second release does, see
            :class:`~agent_scaling.policies.policy.Policy`; otherwise where games open.

    Raises:
        InputError: The file cannot be read, or uses what is not supported (flag or tensor named).
    """
    policy = import_policy(ckpt, as_released)
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    made: dict[str, Any] = {"policy_config": policy.config, "state_dict": weights}
    made |= {"game": policy.game.to_dict(), "imported_from": ckpt}
    write_checkpoint(made, output)
    say(f"{output}: {policy.num_params:,} parameters imported from {ckpt}")


def import_policy(path: str | Path, as_released: bool = False) -> Policy:
    """Load a published checkpoint as a :class:`Policy` in evaluation mode.

    Raises:
        InputError: See :func:`import_checkpoint`.
    """
    checkpoint = read_foreign(path)
    theirs = checkpoint.get("model_state_dict")
    if not isinstance(theirs, Mapping):
        raise InputError(f"{path}: no model_state_dict in it: not a published checkpoint")
    weights = {unwrapped(name): value for name, value in theirs.items()}
    try:
        flags = read_flags(checkpoint.get("flags"))
        if release2.MARK in weights:
            policy = build_policy(release2.policy_config(weights, flags, as_released))
            ours, names = release2.rename(weights)
        else:
            check_flags(flags, has_core="core.weight_ih_l0" in weights)
            if as_released:
                raise InputError("as_released=true is for checkpoints of the second release")
            policy = build_policy(policy_config(weights))
            ours, names = rename(weights)
        check_shapes(ours, policy.state_dict(), names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    policy.load_state_dict(ours)
    return policy.eval()


def unwrapped(name: str) -> str:
    """A parameter's name without the wrappers' prefixes."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def read_flags(flags: object) -> Mapping[str, Any]:
    """Flags as a mapping: they are saved as a dict or as some namespace, or not at all."""
    if isinstance(flags, Mapping):
        return flags
    if flags is not None and not hasattr(flags, "__dict__"):
        raise InputError(f"its flags are a {type(flags).__name__}, not a dict or a namespace")
    return {} if flags is None else vars(flags)


def check_flags(flags: Mapping[str, Any], has_core: bool) -> None:
    """Refuse, by name, a flag that asks for another function than ours; None is the default."""
    for name, supported in {**FIXED_FLAGS, "use_lstm": has_core}.items():
        value = flags.get(name)
        if value is not None and value != supported:
            raise InputError(f"flag {name}={value!r} is not supported (only {supported!r} is)")


def policy_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of the policy that has these tensors (their names).

    Raises:
        InputError: A tensor is missing, or the parts do not fit together as ours do.
    """
    try:
        encoder = encoder_config(weights)
        core: dict[str, Any] = {"_target_": "agent_scaling.policies.cores.none.NoCore"}
        if "core.weight_ih_l0" in weights:
            core = {
                "_target_": "agent_scaling.policies.cores.lstm.LSTMCore",
                "width": weights["core.weight_hh_l0"].shape[1],
                "layers": count(weights, r"core\.(weight_ih_l\d+)"),
            }
        actions = weights["policy.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"no {error} in its model_state_dict: not the LSTM network") from None
    if actions != NUM_ACTIONS:
        raise InputError(f"policy.weight is of {actions} actions, not {NUM_ACTIONS}")
    core["_partial_"] = True
    return {"_target_": "agent_scaling.policies.policy.Policy", "encoder": encoder, "core": core}


def encoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of the encoder that has these tensors; raises ``KeyError`` if one is missing."""
    width, joined = weights["fc.0.weight"].shape
    message_width = weights["topline_encoder.msg_fwd.0.bias"].shape[0]
    status_width = weights["bottomline_encoder.fwd_net.0.bias"].shape[0]
    map_width = weights["screen_encoder.fc_head.0.bias"].shape[0]
    crop = "extract_crop_representation.0.weight" in weights
    known = message_width + status_width + map_width + (CROP_CHANNELS[-1] * CROP**2 if crop else 0)
    if joined - known not in (0, NUM_ACTIONS):
        raise InputError(
            f"fc.0.weight reads {joined} features, of which {joined - known} belong to a part that "
            f"is not supported (only the previous action's {NUM_ACTIONS} are)"
        )
    if "screen_encoder.conv_net.0.1.net.0.weight" in weights:
        raise InputError("a block without pooling (no_max_pool) is not supported")
    chars = weights["screen_encoder.char_embeddings.weight"].shape[1]
    colors = weights["screen_encoder.color_embeddings.weight"].shape[1]
    if chars != colors:
        raise InputError(f"char_edim={chars} and color_edim={colors} must be the same")
    return {
        "_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder",
        "width": width,
        "message_width": message_width,
        "status_width": 4 * status_width,
        "map_width": map_width,
        "map_fc_layers": count(weights, r"screen_encoder\.fc_head\.(\d+)\.weight"),
        "fc_layers": count(weights, r"fc\.(\d+)\.weight"),
        "blocks": count(weights, r"screen_encoder\.conv_net\.(\d+)\.0\.weight"),
        "residual_blocks": count(weights, r"screen_encoder\.conv_net\.0\.(\d+)\.net\.0\.weight"),
        # conv, norm, activation: one norm in three modules of a residual block
        "residual_layers": count(
            weights, r"screen_encoder\.conv_net\.0\.2\.net\.(\d+)\.running_mean"
        ),
        "channel_scale": channel_scale(weights),
        "crop": crop,
        "crop_norm": "extract_crop_representation.1.running_mean" in weights,
        "embedding": chars,
        "frames": weights["screen_encoder.conv_net.0.0.weight"].shape[1] // (chars + colors),
        "prev_action": joined > known,
        "channels_last": False,  # parity down to the gradients
    }


def count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Distinct values of the pattern's group among the names."""
    return len({m.group(1) for name in weights if (m := re.fullmatch(pattern, name))})


def channel_scale(weights: Mapping[str, Tensor]) -> float:
    """The s for which 16·s and 32·s round to the channels; they were cut to whole numbers."""
    first = weights["screen_encoder.conv_net.0.0.bias"].shape[0]
    second = weights.get("screen_encoder.conv_net.1.0.bias")
    return first / 16 if second is None else (first + second.shape[0]) / 48


def rename(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Their tensors under our names, and their names by ours.

    The message line's matrix is transposed into a table of rows. A line whose layers have no width
    takes no part, and is left out.

    Raises:
        InputError: A parameter belongs to a part that we do not have.
    """
    empty = [
        line
        for line, layer in (("topline_encoder.", "msg_fwd.0"), ("bottomline_encoder.", "fwd_net.0"))
        if not weights[f"{line}{layer}.bias"].numel()
    ]
    found: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for name, value in weights.items():
        if name.startswith((*UNUSED, *empty)):
            continue
        prefix = next((p for p in RENAMED if name.startswith(p)), None)
        if prefix is None:
            raise InputError(f"parameter {name} belongs to a part that is not supported")
        new = RENAMED[prefix] + name[len(prefix) :]
        found[new] = value.T.contiguous() if new == "encoder.message.table" else value
        names[new] = name
    return found, names


def check_shapes(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    """Raise :class:`InputError` with the first tensor that is not as the others imply."""
    for name in sorted(expected.keys() | found.keys()):
        there, here = (str([*m[name].shape]) if name in m else "none" for m in (found, expected))
        if there != here:
            raise InputError(
                f"{names.get(name, name)} has shape {there}, where the other tensors imply {here}: "
                "a network that is not supported"
            )
