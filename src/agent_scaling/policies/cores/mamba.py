"""A selective state-space core (Mamba-2, arXiv 2405.21060): parallel over a window, recurrent over
frames, the same function."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.policies.cores.causal_conv import TAPS, convolve
from agent_scaling.policies.cores.state import zero_state
from agent_scaling.policies.costs import LayerCost, linear_cost

State = tuple[Tensor, Tensor]
CHUNK = 64  # frames scanned at once; a chunk costs CHUNK² and its memory


def scan_step(
    x_BHP: Tensor, decay_BH: Tensor, write_BN: Tensor, read_BN: Tensor, state_BHPN: Tensor
) -> tuple[Tensor, Tensor]:
    """One frame: state ← decay · state + x ⊗ write; y = state · read, [B, H, P]."""
    flat, (heads, features) = state_BHPN.flatten(1, 2), x_BHP.shape[1:]
    decayed = (state_BHPN * decay_BH[..., None, None]).view_as(flat)
    state = decayed + torch.bmm(x_BHP.flatten(1)[..., None], write_BN[:, None])
    y_BHP = torch.bmm(state.to(read_BN.dtype), read_BN[..., None]).view(-1, heads, features)
    return y_BHP, state.view_as(state_BHPN)


def scan_chunk(
    x_TBHP: Tensor,
    log_decay_TBH: Tensor,
    write_TBN: Tensor,
    read_TBN: Tensor,
    first_TB: Tensor,
    state_BHPN: Tensor,
) -> tuple[Tensor, Tensor]:
    """The same over T frames by matrix products; the state is zeroed before frames of ``first``.

    Frame s reaches frame t ≥ s of its own game by what lies between them: the decays' product.
    """
    sums_BHT = log_decay_TBH.cumsum(0).permute(1, 2, 0)
    game_BT = first_TB.long().cumsum(0).transpose(0, 1)
    same_BTS = (game_BT[:, :, None] == game_BT[:, None, :]).tril()
    gaps_BHTS = sums_BHT[..., :, None] - sums_BHT[..., None, :]
    between_BHTS = gaps_BHTS.masked_fill(~same_BTS[:, None], -torch.inf).exp()
    since_BHT = sums_BHT.masked_fill((game_BT > 0)[:, None], -torch.inf).exp()  # from the carry

    x_BHTP = x_TBHP.permute(1, 2, 0, 3)
    write_BTN, read_BTN = write_TBN.transpose(0, 1), read_TBN.transpose(0, 1)
    mixed_BTS = torch.bmm(read_BTN, write_BTN.transpose(1, 2))
    y_BHTP = torch.matmul((mixed_BTS[:, None] * between_BHTS).to(x_BHTP.dtype), x_BHTP)
    flat = state_BHPN.flatten(1, 2)
    carried_BTHD = torch.bmm(read_BTN, flat.transpose(1, 2).to(read_BTN.dtype))
    carried_BHTP = torch.unflatten(carried_BTHD, -1, state_BHPN.shape[1:3]).transpose(1, 2)
    y_BHTP = y_BHTP + carried_BHTP * since_BHT[..., None]

    left_BHTP = x_BHTP * between_BHTS[:, :, -1, :, None]
    written = torch.bmm(left_BHTP.transpose(2, 3).flatten(1, 2).to(x_BHTP.dtype), write_BTN)
    state = state_BHPN * since_BHT[:, :, -1, None, None] + written.view_as(state_BHPN)
    return y_BHTP.permute(2, 0, 1, 3), state


class Block(nn.Module):
    """RMSNorm → projections → convolution over time → scan → gate → projection, added to x."""

    def __init__(self, width: int, heads: int, features: int, state_size: int, layers: int) -> None:
        super().__init__()
        self.heads, self.features, self.state_size = heads, features, state_size
        self.inner = heads * features
        self.mixed = self.inner + 2 * state_size  # what the convolution sees: x, write, read
        self.norm = nn.RMSNorm(width)
        self.project = nn.Linear(width, self.inner + self.mixed + heads, bias=False)
        self.joined_rows = {"project": (self.inner, self.inner, state_size, state_size, heads)}
        """Rows of the matrices that a layer's weight holds one below the other."""
        self.conv = nn.Conv1d(self.mixed, self.mixed, TAPS, groups=self.mixed)
        # Time steps from 0.001 to 0.1 and decay rates from 1 to 16, as published.
        steps = torch.exp(torch.rand(heads) * math.log(100) + math.log(0.001))
        self.step_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))  # softplus⁻¹
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(heads))
        self.out_norm = nn.RMSNorm(self.inner)
        self.out = nn.Linear(self.inner, width, bias=False)
        with torch.no_grad():  # the residual stream's variance then does not grow with depth
            self.out.weight.mul_(layers**-0.5)

    def forward(
        self, x_TBD: Tensor, batch: Batch, tail_BDK: Tensor, state_BHPN: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A window → its frames, the convolution's last inputs, the scan's state."""
        widths = [self.inner, self.mixed, self.heads]
        gate_TBD, mixed_TBD, step_TBH = torch.split(self.project(self.norm(x_TBD)), widths, dim=-1)
        mixed_TBD, tail_BDK = convolve(self.conv, mixed_TBD, batch, tail_BDK)
        widths = [self.inner, self.state_size, self.state_size]
        in_TBD, write_TBN, read_TBN = torch.split(F.silu(mixed_TBD), widths, dim=-1)
        in_TBHP = torch.unflatten(in_TBD, -1, (self.heads, self.features))
        step_TBH = F.softplus(step_TBH.float() + self.step_bias)
        log_decay_TBH = -self.log_rate.exp() * step_TBH
        fed_TBHP = (in_TBHP * step_TBH[..., None]).to(in_TBHP.dtype)
        y_TBHP, state_BHPN = self._scan(
            fed_TBHP, log_decay_TBH, write_TBN, read_TBN, batch.first_TB, state_BHPN
        )
        y_TBHP = y_TBHP + in_TBHP * self.skip[:, None]
        gated_TBD = y_TBHP.flatten(2) * F.silu(gate_TBD)
        gated_TBD = self.out_norm(gated_TBD.to(self.out_norm.weight.dtype))
        return x_TBD + self.out(gated_TBD), tail_BDK, state_BHPN

    def _scan(
        self,
        x_TBHP: Tensor,
        log_decay_TBH: Tensor,
        write_TBN: Tensor,
        read_TBN: Tensor,
        first_TB: Tensor,
        state_BHPN: Tensor,
    ) -> tuple[Tensor, Tensor]:
        if len(x_TBHP) == 1:
            decay_BH = log_decay_TBH[0].exp() * ~first_TB[0][:, None]
            y_BHP, state = scan_step(x_TBHP[0], decay_BH, write_TBN[0], read_TBN[0], state_BHPN)
            return y_BHP[None], state
        parts = (x_TBHP, log_decay_TBH, write_TBN, read_TBN, first_TB)
        outputs = []
        for chunk in zip(*(torch.split(part, CHUNK) for part in parts), strict=True):
            x, log_decay, write, read, first = chunk
            y_TBHP, state_BHPN = scan_chunk(x, log_decay, write, read, first, state_BHPN)
            outputs.append(y_TBHP)
        return torch.cat(outputs), state_BHPN


class MambaCore(nn.Module):
    """A stack of selective state-space blocks; the state is zeroed where a game opens.

    Args:
        input_width: Features per frame.
        width: Width of the residual stream, and of the output.
        layers: Blocks.
        state_size: Features N that each inner feature remembers.
        expand: Inner width over ``width``.
        head_dim: Inner features that share a decay: about so many, so that heads divide evenly.
    """

    recurrent = True

    def __init__(
        self,
        input_width: int,
        width: int = 512,
        layers: int = 4,
        state_size: int = 64,
        expand: float = 2.0,
        head_dim: int = 64,
    ) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        heads = max(1, round(expand * width / head_dim))
        features = max(1, round(expand * width / heads))
        self.embed = nn.Linear(input_width, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, features, state_size, layers) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of a core of ``width`` for a policy of ``params`` parameters; a narrow one
        also remembers less."""
        return {"width": width, "state_size": min(64, max(8, width // 4))}

    def initial_state(self, lanes: int) -> State:
        """Zeros: the convolutions' inputs [layers, lanes, mixed, 3] and the scans' states
        [layers, lanes, heads, features, state_size]."""
        block, zeros = self._block(0), partial(zero_state, self.embed.weight)
        scan = (block.heads, block.features, block.state_size)
        return zeros(self.layers, lanes, block.mixed, TAPS - 1), zeros(self.layers, lanes, *scan)

    def forward(self, features_TBD: Tensor, batch: Batch, state: State) -> tuple[Tensor, State]:
        """[T, B, D] → [T, B, width] and the state after the window."""
        # The residual stream keeps the parameters' precision, also under autocast.
        x_TBD = self.embed(features_TBD).to(self.norm.weight.dtype)
        kept: list[tuple[Tensor, Tensor]] = []
        for block, tail, scanned in zip(self.blocks, *state, strict=True):
            x_TBD, *after = block(x_TBD, batch, tail, scanned)
            kept.append((after[0].to(tail.dtype), after[1].to(scanned.dtype)))
        tails, states = (torch.stack(parts) for parts in zip(*kept, strict=True))
        return self.norm(x_TBD), (tails, states)

    def _block(self, index: int) -> Block:
        block = self.blocks[index]
        assert isinstance(block, Block)
        return block

    def costs(self) -> list[LayerCost]:
        """The recurrence's products: x ⊗ write and state · read, 2·inner·state_size each.

        Over a window, :func:`scan_chunk` does the same function with more: that is ``hardware``.
        """
        found = [linear_cost("core.embed", self.embed.in_features, self.width)]
        for index in range(self.layers):
            block, name = self._block(index), f"core.blocks.{index}"
            scan = 4 * block.inner * block.state_size
            found += [
                linear_cost(f"{name}.project", self.width, block.project.out_features),
                LayerCost(f"{name}.conv", "convolution", 2 * TAPS * block.mixed),
                LayerCost(f"{name}.scan", "scan", scan),
                linear_cost(f"{name}.out", block.inner, self.width),
            ]
        return found
