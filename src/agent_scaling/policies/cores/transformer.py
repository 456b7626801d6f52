"""A causal transformer over a sliding window of the game; its KV cache crosses windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from agent_scaling.data.batch import Batch
from agent_scaling.policies.cores.state import zero_state
from agent_scaling.policies.costs import LayerCost, linear_cost
from agent_scaling.runtime.errors import InputError

State = tuple[Tensor, Tensor, Tensor]
ROTARY_BASE = 10_000.0
QUERIES = 256  # frames that attend at once; longer windows are recomputed in the backward pass


def rotary(positions: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of each position's angles, [positions, width / 2]: float32, or double for a
    ``like`` of double."""
    kept = torch.promote_types(like.dtype, torch.float32)
    powers = torch.arange(0, width, 2, device=like.device, dtype=kept) / width
    steps = torch.arange(positions, device=like.device, dtype=kept)
    angles = steps[:, None] * ROTARY_BASE**-powers
    return angles.cos(), angles.sin()


def rotate(x_BHSD: Tensor, cos_SD: Tensor, sin_SD: Tensor) -> Tensor:
    """Turn pairs (first half, second half) of features by their position's angles."""
    first, second = x_BHSD.chunk(2, dim=-1)
    turned = (first * cos_SD - second * sin_SD, second * cos_SD + first * sin_SD)
    return torch.cat(turned, dim=-1)


def attend(
    query_BHTD: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, game_BT: Tensor, game_BS: Tensor
) -> Tensor:
    """Attention of each frame to itself and the S − T keys before it, of its own game alone.

    A long window is cut into :data:`QUERIES` frames, each of which reads the keys that it can
    reach, so that no mask has T × T elements; the backward pass computes them again.
    """
    steps, before = query_BHTD.shape[2], key_BHSD.shape[2] - query_BHTD.shape[2]
    parts = []
    for begin in range(0, steps, QUERIES):
        end = min(steps, begin + QUERIES)
        keys = slice(begin, end + before)
        given = (query_BHTD[:, :, begin:end], key_BHSD[:, :, keys], value_BHSD[:, :, keys])
        games = (game_BT[:, begin:end], game_BS[:, keys])
        if steps > QUERIES and torch.is_grad_enabled():
            seen = checkpoint(
                near_attention, *given, *games, use_reentrant=False, preserve_rng_state=False
            )
        else:
            seen = near_attention(*given, *games)
        parts.append(seen)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def near_attention(
    query_BHTD: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, game_BT: Tensor, game_BS: Tensor
) -> Tensor:
    """The same, in one piece: frame t reaches keys t … t + S − T."""
    before = game_BS.shape[1] - game_BT.shape[1]
    step_S = torch.arange(game_BS.shape[1], device=game_BS.device)
    ago_TS = step_S[before:, None] - step_S[None, :]
    near_TS = (ago_TS >= 0) & (ago_TS <= before)
    allowed_BTS = (game_BT[:, :, None] == game_BS[:, None, :]) & near_TS
    return F.scaled_dot_product_attention(
        query_BHTD, key_BHSD, value_BHSD, attn_mask=allowed_BTS[:, None]
    )


class Block(nn.Module):
    """Llama-type block: RMSNorm → attention, RMSNorm → SwiGLU, each added to its input."""

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        hidden: int,
        layers: int,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.attention_norm = nn.RMSNorm(width, eps=norm_eps)
        self.mlp_norm = nn.RMSNorm(width, eps=norm_eps)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.joined_rows = {"qkv": (inner,) * 3, "gate_up": (hidden,) * 2}
        """Rows of the matrices that a layer's weight holds one below the other."""
        with torch.no_grad():  # the residual stream's variance then does not grow with depth
            for layer in (self.out, self.down):
                layer.weight.mul_((2 * layers) ** -0.5)

    def forward(
        self,
        x_BTD: Tensor,
        cached: tuple[Tensor, Tensor],
        games: tuple[Tensor, Tensor],
        angles: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames and cached keys and values [B, C, inner] → frames, all keys, all values.

        ``games``: the game of each frame [B, T] and of each key [B, C + T].
        """
        query_BTD, *new = self.qkv(self.attention_norm(x_BTD)).chunk(3, dim=-1)
        # Keys are kept before rotation: only distances matter, so a window counts from its cache.
        keys, values = (torch.cat(pair, dim=1) for pair in zip(cached, new, strict=True))
        steps, (cos, sin) = x_BTD.shape[1], angles
        seen_BHTD = attend(
            rotate(self._split(query_BTD), cos[-steps:], sin[-steps:]).to(query_BTD.dtype),
            rotate(self._split(keys), cos, sin).to(query_BTD.dtype),
            self._split(values).to(query_BTD.dtype),
            *games,
        )
        x_BTD = x_BTD + self.out(seen_BHTD.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.mlp_norm(x_BTD)).chunk(2, dim=-1)
        return x_BTD + self.down(F.silu(gate) * up), keys, values

    def _split(self, x_BSD: Tensor) -> Tensor:
        return torch.unflatten(x_BSD, -1, (self.heads, self.head_width)).transpose(1, 2)


class TransformerCore(nn.Module):
    """Each frame sees itself and the ``context`` − 1 frames before it, of its own game alone.

    Rollouts and windows carry the keys and values of the last ``context`` − 1 frames; from window
    to window they pass without gradient, as an LSTM's state does in truncated back-propagation.

    Args:
        input_width: Features per frame.
        width: Width of the residual stream, and of the output.
        layers: Blocks.
        context: Frames that a frame sees, itself included, ≥ 2.
        head_dim: Width that heads have about: ``width`` is dealt to round(width / head_dim) heads.
        mlp_ratio: Hidden width of the SwiGLU over ``width``.
        embed: A linear layer brings features to ``width``; without it they must have that width.
        norm_eps: Added to the mean square in each RMSNorm; None is the smallest that the dtype
            tells from 1.
    """

    def __init__(
        self,
        input_width: int,
        width: int = 512,
        layers: int = 4,
        context: int = 128,
        head_dim: int = 64,
        mlp_ratio: float = 8 / 3,
        embed: bool = True,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        if not embed and input_width != width:
            raise InputError(
                f"policy.core.embed=false: features have width {input_width}, the core {width}; "
                "give both the same width, or embed=true"
            )
        if context < 2:
            raise ValueError(f"context={context}: a frame must see at least one before it (2)")
        self.width, self.layers, self.context = width, layers, context
        heads = max(1, round(width / head_dim))
        self.head_width = 2 * max(1, round(width / heads / 2))  # rotation pairs features
        self.inner, self.hidden = heads * self.head_width, max(1, round(mlp_ratio * width))
        self.embed = nn.Linear(input_width, width) if embed else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, heads, self.head_width, self.hidden, layers, norm_eps)
            for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width, eps=norm_eps)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of a core of ``width`` for a policy of ``params`` parameters."""
        return {"width": width}

    def initial_state(self, lanes: int) -> State:
        """Keys and values [layers, lanes, context − 1, inner], and which are valid (none): bool
        [1, lanes, context − 1]."""
        shape = (self.layers, lanes, self.context - 1, self.inner)
        zeros = zero_state(self.norm.weight, *shape)
        valid = zeros.new_zeros((1, lanes, self.context - 1), dtype=torch.bool)
        return zeros, zeros.clone(), valid

    def forward(self, features_TBD: Tensor, batch: Batch, state: State) -> tuple[Tensor, State]:
        """[T, B, D] → [T, B, width] and the state after the window."""
        keys_LBCD, values_LBCD, valid_1BC = state
        game_BT, game_BS = self._games(batch.first_TB, valid_1BC[0])
        # The residual stream keeps the parameters' precision, also under autocast.
        x_BTD = self.embed(features_TBD.transpose(0, 1)).to(self.norm.weight.dtype)
        angles = rotary(game_BS.shape[1], self.head_width, x_BTD)
        kept: list[tuple[Tensor, Tensor]] = []
        cached = 1 - self.context
        recomputed = torch.is_grad_enabled() and batch.steps > QUERIES
        for index, block in enumerate(self.blocks):
            given = (x_BTD, (keys_LBCD[index], values_LBCD[index]), (game_BT, game_BS), angles)
            if recomputed:  # of a long window, only what goes from block to block is kept
                x_BTD, keys, values = checkpoint(
                    block, *given, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BTD, keys, values = block(*given)
            kept.append((keys[:, cached:], values[:, cached:]))
        valid_BC = (game_BS == game_BT[:, -1:])[:, cached:]
        keys_LBCD, values_LBCD = (torch.stack(parts) for parts in zip(*kept, strict=True))
        return self.norm(x_BTD).transpose(0, 1), (keys_LBCD, values_LBCD, valid_BC[None])

    def _games(self, first_TB: Tensor, valid_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Number the game of each frame [B, T], and of each key [B, C + T], cached ones first.

        A game that began before the window is 0; what is not valid in the cache is −1.
        """
        game_BT = first_TB.long().cumsum(0).transpose(0, 1)
        return game_BT, torch.cat([valid_BC.long() - 1, game_BT], dim=1)

    def costs(self) -> list[LayerCost]:
        """Attention at its full window: 2·2·context·inner; the rest linear.

        So a frame early in a game costs what a late one does. A training window of T frames
        multiplies each query with up to context − 1 + :data:`QUERIES` keys and masks, and longer
        windows compute them twice: that is ``hardware``.
        """
        found: list[LayerCost] = []
        if isinstance(self.embed, nn.Linear):
            found.append(linear_cost("core.embed", self.embed.in_features, self.width))
        for index in range(self.layers):
            name = f"core.blocks.{index}"
            attention = 4 * self.context * self.inner
            found += [
                linear_cost(f"{name}.qkv", self.width, 3 * self.inner),
                LayerCost(f"{name}.attention", "attention", attention),
                linear_cost(f"{name}.out", self.inner, self.width),
                linear_cost(f"{name}.gate_up", self.width, 2 * self.hidden),
                linear_cost(f"{name}.down", self.hidden, self.width),
            ]
        return found
