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
HALF, BUDGET = 5e9, 1e10
"""FLOPs."""
