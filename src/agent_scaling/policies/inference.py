"""Prepares policies for evaluation: BatchNorm folded into convolutions, on the chosen device."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from agent_scaling.runtime.errors import InputError

P = TypeVar("P", bound=nn.Module)


def for_inference(policy: P, device: torch.device) -> P:
    """Copy in evaluation mode, with each BatchNorm folded into the convolution before it.

    A module that has a faster way to the same answers, up to rounding, takes it
    (``prepare_inference``).
    """
    fused = copy.deepcopy(policy).to(device).eval()
    for module in list(fused.modules()):
        if prepare := getattr(module, "prepare_inference", None):
            prepare()
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            conv, norm = module[index], module[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(conv, norm)
                module[index + 1] = nn.Identity()
    return fused.requires_grad_(False)


def uncompiled(policy: nn.Module) -> AbstractContextManager[object]:
    """Run a compiled policy operator by operator meanwhile, so that its shapes may vary."""
    if any(module._compiled_call_impl is not None for module in policy.modules()):
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def find_device(name: str) -> torch.device:
    """Return the device; ``auto`` prefers a GPU; an unusable name raises :class:`InputError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device={name!r} cannot be used ({str(error).splitlines()[0]})") from None
    return device
