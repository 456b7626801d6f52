"""The numbers that cores carry from window to window."""

from __future__ import annotations

import torch
from torch import Tensor


def zero_state(like: Tensor, *shape: int) -> Tensor:
    """Zeros on a parameter's device, in float32 where the parameter has fewer bits.

    Not ``like.new_zeros``, which is sharded where the parameter is.
    """
    return torch.zeros(shape, device=like.device, dtype=exact(like.dtype))


def exact(dtype: torch.dtype) -> torch.dtype:
    """float32 for types of fewer bits, else the type itself."""
    return torch.promote_types(dtype, torch.float32)
