"""Makes a policy from the command line's overrides, for programs without a Trainer or files."""

from __future__ import annotations

from hydra import compose
from hydra.utils import instantiate

from agent_scaling.config.compose import hydra
from agent_scaling.config.mistakes import UNTAKEN, explain
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError


def make_policy(*overrides: str) -> Policy:
    """A policy with fresh weights, described as on the command line.

    Args:
        overrides: E.g. ``"policy/core=transformer"``, ``"policy.params=1_000_000"``; none: the
            paper's network.

    Raises:
        InputError: There is no such key or option, or no such size.
    """
    try:
        with hydra():
            cfg = compose("flops", list(overrides))
        policy: Policy = instantiate(cfg.policy)
    except UNTAKEN as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(f"make_policy: {explain(error, 'flops')}") from error
    return policy
