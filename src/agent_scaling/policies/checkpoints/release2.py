"""Checkpoints of the second release of the paper's authors, as policies of ours.

The network's shape is read from the tensors; the flags tell what shapes cannot: the number of
attention heads and the length of a training window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.screens import COLUMNS, ROWS
from agent_scaling.policies.encoders.screen import CROP, CROP_CHANNELS, MAP_ROWS
from agent_scaling.runtime.errors import InputError

MARK = "modality_mixer.fc.0.weight"
"""A parameter that the second release has and the first has not."""

RENAMED = {
    "topline_encoder.msg_fwd.0.weight": "encoder.message.table",
    "topline_encoder.msg_fwd.0.bias": "encoder.message.bias",
    "bottomline_encoder.conv_net.": "encoder.status.convs.",
    "bottomline_encoder.fwd_net.": "encoder.status.mlp.",
    "inventory_encoder.emb.": "encoder.inventory.glyphs.",
    "inventory_encoder.mlp.": "encoder.inventory.mlp.",
    "obs_encoder.conv_net.": "encoder.map.blocks.",
    "obs_encoder.fc_head.": "encoder.map.mlp.",
    "obs_encoder.char_embeddings.": "encoder.chars.",
    "obs_encoder.color_embeddings.": "encoder.colors.",
    "extract_crop_representation.": "encoder.crop.net.",
    "modality_mixer.fc.": "encoder.fc.",
    "core.backbone.norm_f.": "core.norm.",
    "core.norm.": "core.norm.",
    "policy_head.policy.": "policy.",
}
"""Their parameter names (or prefixes) → ours."""

MESSAGE = {False: {"2": "out"}, True: {"1": "norm", "3": "out", "4": "out_norm"}}
"""Layers of the message line behind the first, without and with LayerNorms → ours."""

LAYER = {
    # Mamba
    "norm": "norm",
    "mixer.in_proj": "project",
    "mixer.conv1d": "conv",
    "mixer.x_proj": "select",
    "mixer.dt_proj": "step",
    "mixer.A_log": "log_rate",
    "mixer.D": "skip",
    "mixer.out_proj": "out",
    # Llama
    "input_layernorm": "attention_norm",
    "self_attn.o_proj": "out",
    "post_attention_layernorm": "mlp_norm",
    "mlp.down_proj": "down",
}
"""Parts of a core's layer → ours."""

JOINED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Ours → the matrices that it holds one below the other."""

UNUSED = ("reward_sum", "reward_m2", "reward_count", "crop.", "core.embed_tokens.")
"""Tensors that do not take part in the forward pass, or that we compute."""

FIXED_FLAGS: dict[str, Any] = {
    "crop_dim": CROP,
    "crop_padding": 1,
    "crop_kernel_size": 3,
    "crop_stride": 1,
}
"""Flags that shapes do not show, and that have one supported value."""


def policy_config(
    weights: Mapping[str, Tensor], flags: Mapping[str, Any], released: bool
) -> dict[str, Any]:
    """Config of the policy that has these tensors.

    Args:
        weights: Their tensors by their names.
        flags: Their resolved configuration; may be empty for a Mamba.
        released: Reset the core's state as the release does, instead of where games open.

    Raises:
        InputError: A tensor or flag is missing, or belongs to a network that is not supported.
    """
    network = flat(flags)
    check_flags(network)
    check_crop(weights)
    try:
        encoder = encoder_config(weights)
        mamba = "core.backbone.norm_f.weight" in weights
        core = mamba_config(weights) if mamba else llama_config(weights, network)
        actions = weights["policy_head.policy.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"no {error} in it: not the second release's network") from None
    if actions != NUM_ACTIONS:
        raise InputError(f"policy_head.policy.weight is of {actions} actions, not {NUM_ACTIONS}")
    own = "windows" if mamba else "calls"
    return {
        "_target_": "agent_scaling.policies.policy.Policy",
        "encoder": encoder,
        "core": {**core, "_partial_": True},
        "baseline": False,
        "resets": own if released else "games",
    }


def flat(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of all groups (network, data, …) side by side."""
    found: dict[str, Any] = {}
    for name, value in flags.items():
        found |= dict(value) if isinstance(value, Mapping) else {name: value}
    return found


def check_flags(network: Mapping[str, Any]) -> None:
    """Refuse, by name, a flag that asks for another function than ours."""
    for name, supported in FIXED_FLAGS.items():
        value = network.get(name)
        if value is not None and value != supported:
            raise InputError(f"flag {name}={value!r} is not supported (only {supported!r} is)")
    mode = network.get("core_mode")
    if mode not in (None, "mamba", "llama"):
        raise InputError(f"flag core_mode={mode!r} is not supported (only mamba and llama are)")


def check_crop(weights: Mapping[str, Tensor]) -> None:
    """Refuse a crop of another size or with other layers."""
    crop = re.compile(r"extract_crop_representation\.\d+\.weight")
    convs = [v.shape[0] for name, v in weights.items() if crop.fullmatch(name) and v.ndim == 4]
    if convs != [*CROP_CHANNELS]:
        only = ", ".join(map(str, CROP_CHANNELS))
        raise InputError(f"a crop with layers of {convs} channels is not supported (only {only})")
    grid = weights.get("crop.width_grid")
    if grid is not None and tuple(grid.shape) != (CROP, CROP):
        raise InputError(f"a crop of {tuple(grid.shape)} cells is not supported (only 9×9 is)")


def encoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of the encoder that has these tensors; raises ``KeyError`` if one is missing."""
    chars = weights["obs_encoder.char_embeddings.weight"].shape[1]
    colors = weights["obs_encoder.color_embeddings.weight"].shape[1]
    cell = weights["extract_crop_representation.0.weight"].shape[1]
    first = weights["obs_encoder.conv_net.0.0.weight"]
    convs = named(weights, r"obs_encoder\.conv_net\.\d+\.0\.weight")
    channels = [weights[name].shape[0] for name in convs]
    residual = r"obs_encoder\.conv_net\.0\.{}\.net\.{}"
    found: dict[str, Any] = {
        "_target_": "agent_scaling.policies.encoders.release2.Release2Encoder",
        "width": weights[MARK].shape[0],
        "message_width": weights["topline_encoder.msg_fwd.0.bias"].shape[0],
        "status_width": 4 * weights["bottomline_encoder.fwd_net.0.bias"].shape[0],
        "inventory": "inventory_encoder.emb.weight" in weights,
        "map_width": weights["obs_encoder.fc_head.0.bias"].shape[0],
        "map_fc_layers": linear_layers(weights, r"obs_encoder\.fc_head"),
        "fc_layers": linear_layers(weights, r"modality_mixer\.fc"),
        "channels": channels,
        "residual_blocks": len(named(weights, residual.format(r"\d+", r"0\.weight"))),
        "residual_layers": len(named(weights, residual.format("2", r"\d+\.running_mean"))),
        "kernel": first.shape[-1],
        "embedding": chars,
        "color_embedding": colors,
        "summed": chars == colors == cell,
        "norms": has_norms(weights),
        "whole": is_whole(weights["obs_encoder.fc_head.0.weight"].shape[1], channels),
        "frames": first.shape[1] // cell,
        "channels_last": False,  # parity down to the gradients
    }
    if found["inventory"]:
        found["inventory_width"] = weights["inventory_encoder.mlp.0.bias"].shape[0]
        found["inventory_embedding"] = weights["inventory_encoder.emb.weight"].shape[1]
    return found


def named(weights: Mapping[str, Tensor], pattern: str) -> list[str]:
    """Names that the pattern matches, in the checkpoint's order."""
    return [name for name in weights if re.fullmatch(pattern, name)]


def linear_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Number of the matrices under a prefix."""
    return sum(weights[name].ndim == 2 for name in named(weights, rf"{prefix}\.\d+\.weight"))


def has_norms(weights: Mapping[str, Tensor]) -> bool:
    """True where a LayerNorm stands behind each linear layer."""
    return "topline_encoder.msg_fwd.1.weight" in weights


def is_whole(features: int, channels: list[int]) -> bool:
    """True where the map's ``features`` are those of all rows of the terminal, not of the 21."""
    sizes = {}
    for rows in (MAP_ROWS, ROWS):
        height, width = rows, COLUMNS
        for _ in channels:
            height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
        sizes[rows] = channels[-1] * height * width
    if features not in sizes.values():
        raise InputError(
            f"obs_encoder.fc_head.0.weight reads {features} features, where the other tensors "
            f"imply {sizes[MAP_ROWS]} or {sizes[ROWS]}: a network that is not supported"
        )
    return features == sizes[ROWS]


def mamba_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of the Mamba that has these tensors."""
    inner, state_size = weights["core.backbone.layers.0.mixer.A_log"].shape
    width = weights["core.backbone.norm_f.weight"].shape[0]
    return {
        "_target_": "agent_scaling.policies.cores.mamba1.Mamba1Core",
        "width": width,
        "layers": len(named(weights, r"core\.backbone\.layers\.\d+\.norm\.weight")),
        "state_size": state_size,
        "expand": inner / width,
    }


def llama_config(weights: Mapping[str, Tensor], network: Mapping[str, Any]) -> dict[str, Any]:
    """Config of the transformer that has these tensors."""
    if named(weights, r"core\.h\..*"):
        raise InputError("core.h: core_mode='gpt2' is not supported (only mamba and llama are)")
    for flag in ("tf_num_heads", "unroll_length"):
        if not isinstance(network.get(flag), int) or network[flag] < 1:
            raise InputError(f"flag {flag} is missing: a transformer's tensors do not tell it")
    width, heads = weights["core.norm.weight"].shape[0], network["tf_num_heads"]
    if width % (2 * heads):
        raise InputError(f"flag tf_num_heads={heads}: {width} features are no even width per head")
    return {
        "_target_": "agent_scaling.policies.cores.transformer.TransformerCore",
        "width": width,
        "layers": len(named(weights, r"core\.layers\.\d+\.input_layernorm\.weight")),
        "context": max(2, network["unroll_length"]),
        "head_dim": width // heads,
        "mlp_ratio": weights["core.layers.0.mlp.down_proj.weight"].shape[1] / width,
        "embed": False,
        "norm_eps": 1e-6,
    }


def rename(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Their tensors under our names, and their names by ours.

    Raises:
        InputError: A parameter belongs to a part that we do not have.
    """
    found: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for name, value in weights.items():
        if name.startswith(UNUSED) or any(p in name for part in JOINED.values() for p in part):
            continue
        ours = new_name(name, has_norms(weights))
        found[ours], names[ours] = value, name
        if ours == "encoder.message.table":
            found[ours] = value.T.contiguous()
    for layer in named(weights, r"core\.layers\.\d+\.input_layernorm\.weight"):
        theirs = layer.removesuffix("input_layernorm.weight")
        for part, pieces in JOINED.items():
            ours = f"{theirs.replace('core.layers', 'core.blocks')}{part}.weight"
            rows = [f"{theirs}{piece}.weight" for piece in pieces]
            if missing := [name for name in rows if name not in weights]:
                raise InputError(f"no {missing[0]!r} in it: not the second release's network")
            found[ours], names[ours] = torch.cat([weights[row] for row in rows]), rows[0]
    return found, names


def new_name(name: str, norms: bool) -> str:
    """One parameter's name of ours."""
    message = re.fullmatch(r"topline_encoder\.msg_fwd\.([1-9])\.(.*)", name)
    if message and message[1] in MESSAGE[norms]:
        return f"encoder.message.{MESSAGE[norms][message[1]]}.{message[2]}"
    layer = re.fullmatch(r"core\.(?:backbone\.)?layers\.(\d+)\.(.*?)(\.weight|\.bias)?", name)
    if layer and layer[2] in LAYER:
        return f"core.blocks.{layer[1]}.{LAYER[layer[2]]}{layer[3] or ''}"
    prefix = next((p for p in RENAMED if name.startswith(p)), None)
    if prefix is None or layer or message:
        raise InputError(f"parameter {name} belongs to a part that is not supported")
    return RENAMED[prefix] + name[len(prefix) :]
