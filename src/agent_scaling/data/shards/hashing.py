"""Keyed hashes, which decide the order and the split of games."""

from __future__ import annotations

from hashlib import blake2b


def keyed_hash(text: str, purpose: str) -> int:
    """A 64-bit number that depends on nothing but its arguments (blake2b)."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=purpose.encode()).digest())
