"""Keyed hashes, which decide the order and the split of games."""

from __future__ import annotations

from hashlib import blake2b


def keyed_hash(text: str, purpose: str) -> int:
    """Return a 64-bit hash that depends on its arguments alone (blake2b)."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=purpose.encode()).digest())
