"""The second release's network, restated from its description: slow, obvious, none of our modules.

Checkpoints of any shape are drawn under the release's names, and their network is computed from the
tensors alone, in their dtype. Tensors are time-first; T frames of B lanes are N = T·B rows.
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from agent_scaling.data.batch import Batch

Weights = dict[str, Tensor]
Nonlinear = Literal["elu", "relu"]
ACTIONS, EMPTY_SLOT = 121, 5976
CROP_CHANNELS = (16, 16, 16, 16, 8)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def drawn_flags(core: str, seed: int) -> dict[str, Any]:
    """Draw widths, depths and options, each over what the description names."""
    draw = random.Random(seed)
    joined = draw.random() < 0.5
    heads = draw.choice([1, 2, 3])
    characters = draw.randint(2, 7)
    network: dict[str, Any] = {
        "core_mode": core,
        "hdim": 2 * heads * draw.randint(3, 9),
        "mamba_num_layers": draw.randint(1, 4),
        "tf_num_layers": draw.randint(1, 4),
        "tf_num_heads": heads,
        "msg_hdim": draw.randint(2, 9),
        "blstats_hdim": 4 * draw.randint(2, 9),
        "use_inventory": draw.random() < 0.6,
        "inv_hdim": draw.randint(3, 9),
        "inv_edim": draw.randint(2, 5),
        "add_char_color": not joined,
        "char_edim": characters,
        "color_edim": draw.randint(2, 7) if joined else characters,
        "add_norm_after_linear": draw.random() < 0.5,
        "include_top_and_bottom": draw.random() < 0.3,
        "obs_kernel_size": draw.choice([3, 5]),
        "obs_conv_blocks": draw.choice([1, 2, 3]),
        "obs_frame_stack": draw.choice([1, 1, 2, 3]),
        "resnet_num_blocks": draw.choice([0, 1, 2, 3]),
        "resnet_num_layers": draw.choice([1, 2]),
        "resnet_num_fc_layers": draw.choice([1, 2, 3]),
        "resnet_hdim": draw.randint(4, 20),
        "resnet_scale_channels": draw.choice([1, 2]) if joined else 1,
        "policy_num_fc_layers": draw.choice([1, 2, 3]),
        "crop_dim": 9, "crop_kernel_size": 3, "crop_padding": 1, "crop_stride": 1,
        "crop_num_layers": 5, "crop_inter_filters": 16, "crop_out_filters": 8,
    }  # fmt: skip
    return {"network": network, "data": {"unroll_length": 16}}


def map_channels(flags: dict[str, Any]) -> list[int]:
    """Channels of the blocks over the screen."""
    scale = flags["resnet_scale_channels"]
    return [16 * scale, 32 * scale, 32 * scale][: flags["obs_conv_blocks"]]


def pooled(flags: dict[str, Any]) -> int:
    """Cells of the screen behind the last block."""
    height, width = (24 if flags["include_top_and_bottom"] else 21), 80
    for _ in range(flags["obs_conv_blocks"]):
        height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
    return height * width


def stack_at(norms: bool, layer: int) -> int:
    """Index of a linear layer in a Sequential of Linear, [LayerNorm], activation, …"""
    return (3 if norms else 2) * layer


def shapes(flags: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint with these network flags, by the release's name."""
    found: dict[str, tuple[int, ...]] = {}
    norms, h = flags["add_norm_after_linear"], flags["hdim"]

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = (outputs, inputs)
        if bias:
            found[f"{name}.bias"] = (outputs,)

    def norm(name: str, width: int, batch: bool = False) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
        if batch:
            found[f"{name}.running_mean"] = found[f"{name}.running_var"] = (width,)
            found[f"{name}.num_batches_tracked"] = ()

    def dense(name: str, inputs: int, width: int, layers: int) -> None:
        for layer in range(layers):
            at = stack_at(norms, layer)
            linear(f"{name}.{at}", inputs if layer == 0 else width, width)
            if norms:
                norm(f"{name}.{at + 1}", width)

    def conv(name: str, inputs: int, outputs: int, *kernel: int) -> None:
        found[f"{name}.weight"] = (outputs, inputs, *kernel)
        found[f"{name}.bias"] = (outputs,)

    dense("topline_encoder.msg_fwd", 80 * 256, flags["msg_hdim"], 2)
    conv("bottomline_encoder.conv_net.0", 2, 32, 8)
    conv("bottomline_encoder.conv_net.2", 32, 64, 4)
    dense("bottomline_encoder.fwd_net", 64 * 36, flags["blstats_hdim"] // 4, 2)
    if flags["use_inventory"]:
        found["inventory_encoder.emb.weight"] = (EMPTY_SLOT + 1, flags["inv_edim"])
        linear("inventory_encoder.mlp.0", 55 * flags["inv_edim"], flags["inv_hdim"])
        norm("inventory_encoder.mlp.1", flags["inv_hdim"])
        linear("inventory_encoder.mlp.3", flags["inv_hdim"], flags["inv_hdim"])
    found["obs_encoder.char_embeddings.weight"] = (256, flags["char_edim"])
    found["obs_encoder.color_embeddings.weight"] = (128, flags["color_edim"])
    cell = flags["char_edim"] + (0 if flags["add_char_color"] else flags["color_edim"])
    kernel = (flags["obs_kernel_size"],) * 2
    before = cell * flags["obs_frame_stack"]
    for block, channels in enumerate(map_channels(flags)):
        name = f"obs_encoder.conv_net.{block}"
        conv(f"{name}.0", before, channels, *kernel)
        for residual in range(flags["resnet_num_blocks"]):
            for layer in range(flags["resnet_num_layers"]):
                conv(f"{name}.{2 + residual}.net.{3 * layer}", channels, channels, *kernel)
                norm(f"{name}.{2 + residual}.net.{3 * layer + 1}", channels, batch=True)
        before = channels
    flat = before * pooled(flags)
    dense("obs_encoder.fc_head", flat, flags["resnet_hdim"], flags["resnet_num_fc_layers"])
    before = cell
    for layer, channels in enumerate(CROP_CHANNELS):
        conv(f"extract_crop_representation.{3 * layer}", before, channels, 3, 3)
        norm(f"extract_crop_representation.{3 * layer + 1}", channels, batch=True)
        before = channels
    found["crop.width_grid"] = found["crop.height_grid"] = (9, 9)
    parts = [flags["msg_hdim"], flags["blstats_hdim"] // 4]
    parts += [flags["inv_hdim"]] if flags["use_inventory"] else []
    parts += [flags["resnet_hdim"], ACTIONS, before * 81]
    dense("modality_mixer.fc", sum(parts), h, flags["policy_num_fc_layers"])
    if flags["core_mode"] == "mamba":
        rank = math.ceil(h / 16)
        for layer in range(flags["mamba_num_layers"]):
            name = f"core.backbone.layers.{layer}"
            found[f"{name}.norm.weight"] = (h,)
            linear(f"{name}.mixer.in_proj", h, 4 * h, bias=False)
            conv(f"{name}.mixer.conv1d", 1, 2 * h, 4)
            linear(f"{name}.mixer.x_proj", 2 * h, rank + 32, bias=False)
            linear(f"{name}.mixer.dt_proj", rank, 2 * h)
            found[f"{name}.mixer.A_log"], found[f"{name}.mixer.D"] = (2 * h, 16), (2 * h,)
            linear(f"{name}.mixer.out_proj", 2 * h, h, bias=False)
        found["core.backbone.norm_f.weight"] = (h,)
    else:
        found["core.embed_tokens.weight"] = (1, h)
        for layer in range(flags["tf_num_layers"]):
            name = f"core.layers.{layer}"
            for part in "qkvo":
                linear(f"{name}.self_attn.{part}_proj", h, h, bias=False)
            linear(f"{name}.mlp.gate_proj", h, 4 * h, bias=False)
            linear(f"{name}.mlp.up_proj", h, 4 * h, bias=False)
            linear(f"{name}.mlp.down_proj", 4 * h, h, bias=False)
            found[f"{name}.input_layernorm.weight"] = (h,)
            found[f"{name}.post_attention_layernorm.weight"] = (h,)
        found["core.norm.weight"] = (h,)
    linear("policy_head.policy", h, ACTIONS)
    found["reward_sum"] = found["reward_m2"] = found["reward_count"] = ()
    return found


def drawn_weights(flags: dict[str, Any], seed: int) -> Weights:
    """Draw every tensor in float32: matrices that keep their inputs' size, norms near 1."""
    g = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, shape in shapes(flags).items():
        drawn = torch.randn(shape, generator=g)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            weights[name] = 1 + drawn.abs() / 4
        elif name.endswith("A_log"):
            weights[name] = torch.arange(1.0, 17).log() + drawn / 10
        elif len(shape) > 1 and "emb" not in name:
            weights[name] = drawn * (2 / math.prod(shape[1:])) ** 0.5
        else:
            weights[name] = drawn / 3
    return weights


def doubled(weights: Weights) -> Weights:
    """The same numbers in float64, as new tensors."""
    return {name: value.double() for name, value in weights.items()}


class Released:
    """The network of a checkpoint's tensors.

    Args:
        weights: By the release's names, all of one dtype.
        flags: Its ``network`` flags.
        training: BatchNorm takes the statistics of all rows of the call.
    """

    def __init__(self, weights: Weights, flags: dict[str, Any], training: bool = False) -> None:
        self.weights, self.flags, self.training = weights, flags, training

    def logits(self, batch: Batch, reset: bool) -> Tensor:
        """Logits [T, B, A] of a window that begins from nothing; ``reset``: so does each game."""
        mixed_TBD = self.mixed(batch)
        steps, lanes = mixed_TBD.shape[:2]
        core = self.mamba if self.flags["core_mode"] == "mamba" else self.llama
        rows: list[Tensor] = []
        for lane in range(lanes):
            opening = batch.first_TB[:, lane].nonzero().flatten().tolist() if reset else []
            ends = [*(t for t in opening if t > 0), steps]
            begins = [0, *ends[:-1]]
            games = (mixed_TBD[b:e, lane] for b, e in zip(begins, ends, strict=True))
            rows.append(torch.cat([core(game_TD) for game_TD in games]))
        return self.linear("policy_head.policy", torch.stack(rows, dim=1))

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A linear layer, with its bias if it has one."""
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def dense(self, name: str, x: Tensor, layers: int, kind: Nonlinear) -> Tensor:
        """``FC``: linear, LayerNorm if the flags say so, activation; so many times."""
        norms = self.flags["add_norm_after_linear"]
        for layer in range(layers):
            at = stack_at(norms, layer)
            x = self.linear(f"{name}.{at}", x)
            if norms:
                x = self.layer_norm(f"{name}.{at + 1}", x)
            x = F.elu(x) if kind == "elu" else F.relu(x)
        return x

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """LayerNorm over the last axis."""
        own = (self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
        return F.layer_norm(x, (x.shape[-1],), *own, 1e-5)

    def conv2d(self, name: str, x: Tensor, padding: int) -> Tensor:
        """A convolution with stride 1."""
        own = (self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
        return F.conv2d(x, *own, padding=padding)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """BatchNorm by the rows' statistics in training, by the running ones otherwise."""
        running = [self.weights[f"{name}.{part}"].clone() for part in BUFFERS[:2]]
        own = (self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
        return F.batch_norm(x, running[0], running[1], *own, self.training, 0.1, 1e-5)

    def mixed(self, batch: Batch) -> Tensor:
        """All parts of a frame, through the mixer: [T, B, hdim]."""
        w, flags = self.weights, self.flags
        chars_TBHW, colors_TBHW, cursor_TB2 = batch.terminal()
        chars, colors = chars_TBHW.flatten(0, 1).long(), colors_TBHW.flatten(0, 1).long()
        dtype = w["policy_head.policy.weight"].dtype
        top = F.one_hot(chars[:, 0], 256).to(dtype).flatten(1)
        parts = [self.dense("topline_encoder.msg_fwd", top, 2, "elu")]

        c = chars[:, 22:].flatten(1).to(dtype)
        digits = torch.where((c > 44) & (c < 58), (c - 47) / 10, 0)
        x = torch.stack([(c - 32) / 96, digits], dim=1)
        for layer, stride in ((0, 4), (2, 1)):
            name = f"bottomline_encoder.conv_net.{layer}"
            x = F.elu(F.conv1d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=stride))
        parts.append(self.dense("bottomline_encoder.fwd_net", x.flatten(1), 2, "elu"))

        if flags["use_inventory"]:
            slots = w["inventory_encoder.emb.weight"][batch.inventory().flatten(0, 1).long()]
            x = self.linear("inventory_encoder.mlp.0", slots.flatten(1))
            x = F.elu(self.layer_norm("inventory_encoder.mlp.1", x))
            parts.append(self.linear("inventory_encoder.mlp.3", x))

        top_row, rows = (0, 24) if flags["include_top_and_bottom"] else (1, 21)
        shown = (chars_TBHW.long(), colors_TBHW.long())
        seen = [plane[:, :, top_row : top_row + rows] for plane in shown]
        parts.append(self.screen(*seen))
        actions = batch.prev_action_TB.flatten()
        parts.append(F.one_hot(actions, ACTIONS).to(dtype))
        cells = [plane[:, top_row : top_row + rows] for plane in (chars, colors)]
        parts.append(self.crop(*cells, cursor_TB2.flatten(0, 1).long(), top_row))
        layers = flags["policy_num_fc_layers"]
        x = self.dense("modality_mixer.fc", torch.cat(parts, dim=1), layers, "relu")
        return x.view(batch.steps, batch.lanes, -1)

    def embedded(self, chars: Tensor, colors: Tensor) -> Tensor:
        """The vectors of cells, summed or joined, as a last axis."""
        one = self.weights["obs_encoder.char_embeddings.weight"][chars]
        other = self.weights["obs_encoder.color_embeddings.weight"][colors]
        return one + other if self.flags["add_char_color"] else torch.cat([one, other], dim=-1)

    def screen(self, chars_TBHW: Tensor, colors_TBHW: Tensor) -> Tensor:
        """The last F frames through the convolutions; before the window lie spaces."""
        flags, frames = self.flags, self.flags["obs_frame_stack"]
        stacked = []
        for ago in reversed(range(frames)):
            blank = (torch.full_like(chars_TBHW[:1], 32), torch.zeros_like(colors_TBHW[:1]))
            pair = zip((chars_TBHW, colors_TBHW), blank, strict=True)
            past = [torch.cat([first.repeat(ago, 1, 1, 1), x])[: len(x)] for x, first in pair]
            stacked.append(self.embedded(*past).flatten(0, 1).permute(0, 3, 1, 2))
        x, kernel = torch.cat(stacked, dim=1), flags["obs_kernel_size"]
        for block in range(flags["obs_conv_blocks"]):
            name = f"obs_encoder.conv_net.{block}"
            x = F.max_pool2d(self.conv2d(f"{name}.0", x, kernel // 2), 3, stride=2)
            for residual in range(flags["resnet_num_blocks"]):
                y = x
                for layer in range(flags["resnet_num_layers"]):
                    net = f"{name}.{2 + residual}.net"
                    y = self.conv2d(f"{net}.{3 * layer}", y, kernel // 2)
                    y = F.elu(self.batch_norm(f"{net}.{3 * layer + 1}", y))
                x = x + y
        return self.dense("obs_encoder.fc_head", x.flatten(1), flags["resnet_num_fc_layers"], "elu")

    def crop(self, chars: Tensor, colors: Tensor, cursor_N2: Tensor, top_row: int) -> Tensor:
        """The cells −5 … +3 around the cursor, cell by cell; 0 outside."""
        count, height, width = chars.shape
        found = torch.zeros(2, count, 9, 9, dtype=torch.long)
        for n, (row, column) in enumerate(cursor_N2.tolist()):
            for i in range(9):
                for j in range(9):
                    y, x = (row - top_row) % 256 + i - 5, column + j - 5
                    if 0 <= y < height and 0 <= x < width:
                        found[:, n, i, j] = torch.stack([chars[n, y, x], colors[n, y, x]])
        x = self.embedded(*found).permute(0, 3, 1, 2)
        for layer in range(len(CROP_CHANNELS)):
            name = "extract_crop_representation"
            x = self.conv2d(f"{name}.{3 * layer}", x, 1)
            x = F.elu(self.batch_norm(f"{name}.{3 * layer + 1}", x))
        return x.flatten(1)

    def rms_norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        """RMSNorm over the last axis."""
        size = (x.square().mean(-1, keepdim=True) + eps).sqrt()
        return x / size * self.weights[f"{name}.weight"]

    def mamba(self, r_TD: Tensor) -> Tensor:
        """One game of one lane through the Mamba, frame by frame."""
        for layer in range(self.flags["mamba_num_layers"]):
            name = f"core.backbone.layers.{layer}"
            r_TD = r_TD + self.mixer(name, self.rms_norm(f"{name}.norm", r_TD, 1e-5))
        return self.rms_norm("core.backbone.norm_f", r_TD, 1e-5)

    def mixer(self, name: str, x_TD: Tensor) -> Tensor:
        """One layer of Mamba-1."""
        w, rank = self.weights, math.ceil(x_TD.shape[1] / 16)
        u_TD, z_TD = self.linear(f"{name}.mixer.in_proj", x_TD).chunk(2, dim=-1)
        taps_D4 = w[f"{name}.mixer.conv1d.weight"][:, 0]
        before = torch.cat([u_TD.new_zeros(3, u_TD.shape[1]), u_TD])
        u_TD = w[f"{name}.mixer.conv1d.bias"] + sum(
            before[k : k + len(u_TD)] * taps_D4[:, k] for k in range(4)
        )
        u_TD = F.silu(u_TD)
        given = self.linear(f"{name}.mixer.x_proj", u_TD)
        steps, write_TN, read_TN = given.split([rank, 16, 16], dim=-1)
        delta_TD = F.softplus(self.linear(f"{name}.mixer.dt_proj", steps))
        rate_DN = w[f"{name}.mixer.A_log"].exp()
        state, outputs = torch.zeros_like(rate_DN), []
        for u, delta, write, read in zip(u_TD, delta_TD, write_TN, read_TN, strict=True):
            state = (-delta[:, None] * rate_DN).exp() * state + (delta * u)[:, None] * write
            outputs.append(state @ read + w[f"{name}.mixer.D"] * u)
        return self.linear(f"{name}.mixer.out_proj", torch.stack(outputs) * F.silu(z_TD))

    def llama(self, x_TD: Tensor) -> Tensor:
        """One game of one lane through the transformer; its first frame has position 0."""
        for layer in range(self.flags["tf_num_layers"]):
            name = f"core.layers.{layer}"
            x_TD = x_TD + self.attention(name, self.rms_norm(f"{name}.input_layernorm", x_TD, 1e-6))
            y = self.rms_norm(f"{name}.post_attention_layernorm", x_TD, 1e-6)
            gate, up = (self.linear(f"{name}.mlp.{part}_proj", y) for part in ("gate", "up"))
            x_TD = x_TD + self.linear(f"{name}.mlp.down_proj", F.silu(gate) * up)
        return self.rms_norm("core.norm", x_TD, 1e-6)

    def attention(self, name: str, x_TD: Tensor) -> Tensor:
        """Causal attention over the whole of the game, head by head."""
        steps, heads = len(x_TD), self.flags["tf_num_heads"]
        width = x_TD.shape[1] // heads
        powers = torch.arange(0, width, 2, dtype=x_TD.dtype) / width
        angles = torch.arange(steps, dtype=x_TD.dtype)[:, None] * 10_000.0**-powers
        cos, sin = angles.cos(), angles.sin()

        def turned(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

        parts = [self.linear(f"{name}.self_attn.{part}_proj", x_TD) for part in "qkv"]
        outputs = []
        for query, key, value in zip(*(part.split(width, dim=1) for part in parts), strict=True):
            scores = turned(query) @ turned(key).T / width**0.5
            later = torch.ones(steps, steps, dtype=torch.bool).triu(1)
            outputs.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ value)
        return self.linear(f"{name}.self_attn.o_proj", torch.cat(outputs, dim=1))
