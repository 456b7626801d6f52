"""Settings of small runs of inverse dynamics."""

from __future__ import annotations

INVERSE = [
    "module=inverse",
    "policy/core=bidirectional_lstm",
    "policy.encoder.prev_action=false",
    "policy.encoder.moves=true",
    "policy.encoder.embedding=4",
    "data.lookahead=2",
    "callbacks.held_out.margins=true",
    "callbacks.ema.decay=null",
]
HALF, BUDGET = 2.5e9, 5e9
"""FLOPs: of 4 and of 8 windows; a game ends in the seventh."""
