"""A game that does nothing: what a pool costs with it is the pool's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Still:
    """Shows one number that never changes; its episodes never end."""

    observations: ClassVar[Mapping[str, tuple[tuple[int, ...], str]]] = {"shown": ((1,), "int64")}
    num_actions: ClassVar[int] = 100

    def __init__(self, views: Mapping[str, Any]) -> None:
        pass

    def reset(self, seed: int) -> None:
        """Do nothing."""

    def step(self, action: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
