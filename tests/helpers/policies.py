"""Small policies and random windows for tests."""

from __future__ import annotations

import torch

from agent_scaling.data.batch import Batch
from agent_scaling.envs.screens import NO_GLYPH
from agent_scaling.policies.cores.lstm import LSTMCore
from agent_scaling.policies.encoders.inventory import ITEMS
from agent_scaling.policies.encoders.nethack import NetHackEncoder
from agent_scaling.policies.policy import Policy

SMALL = {
    "width": 16,
    "message_width": 8,
    "status_width": 16,
    "map_width": 16,
    "blocks": 2,
    "residual_blocks": 1,
    "channel_scale": 0.25,
}


def small_policy(seed: int = 0, **encoder: object) -> Policy:
    """A policy of some 200 thousand parameters, most of them in the message's table."""
    torch.manual_seed(seed)
    made = Policy(NetHackEncoder(**{**SMALL, **encoder}), lambda width: LSTMCore(width, 16, 2))
    made.config = {
        "_target_": "agent_scaling.policies.policy.Policy",
        "encoder": {"_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder"}
        | {**SMALL, **encoder},
        "core": {
            "_target_": "agent_scaling.policies.cores.lstm.LSTMCore",
            "_partial_": True,
            "width": 16,
            "layers": 2,
        },
    }
    return made


def random_batch(steps: int, lanes: int, seed: int = 0, openings: float = 0.0) -> Batch:
    """Screens, actions and openings drawn at random; ten distinct games."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, high, (steps, lanes, *shape), generator=g)

    return Batch(
        chars_TBHW=draw(256, 24, 80).to(torch.uint8),
        colors_TBHW=draw(24, 24, 80).to(torch.int8),
        cursor_TB2=torch.stack([draw(24), draw(80)], dim=-1).to(torch.uint8),
        prev_action_TB=draw(121),
        action_TB=draw(121),
        first_TB=torch.rand(steps, lanes, generator=g) < openings,
        game_TB=draw(10),
        inv_glyphs_TBI=torch.tensor([*ITEMS, NO_GLYPH])[draw(len(ITEMS) + 1, 55)].to(torch.int16),
    )


def cut(batch: Batch, steps: slice, lanes: slice = slice(None)) -> Batch:
    """A part of a batch, along steps and lanes."""
    return batch._map(lambda tensor: tensor[steps, lanes])
